"""What must stay at an origin, and so whether a key goes."""

from __future__ import annotations

from dataclasses import dataclass

from dreamer.protocol.garbage.commands import OpenUpload, StoredKey
from dreamer.protocol.garbage.keys import (
    ContentKey,
    CopyKey,
    OwnKey,
    PushKey,
    RegistryKey,
    TemporaryKey,
)
from dreamer.protocol.garbage.report import Report, Why
from dreamer.protocol.ids import Digest, ManifestId
from dreamer.protocol.origin_limits import (
    LEASE_TTL_S,
    PROBE_ABANDONED_S,
    TEMPORARY_SLACK_S,
    UPLOAD_ABANDONED_S,
)


@dataclass(frozen=True)
class Kept:
    """What must stay, as of ``now`` (epoch seconds).

    ``named`` by the registry's manifests, ``leased`` by pushes under way; ``copies`` are the short
    ids of models whose copies by name stay, ``undescribed`` the models without a manifest.
    """

    now: float
    grace_s: float
    named: frozenset[Digest] = frozenset()
    leased: frozenset[Digest] = frozenset()
    copies: frozenset[str] = frozenset()
    undescribed: tuple[ManifestId, ...] = ()

    def why(self, stored: StoredKey, own: OwnKey, report: Report) -> Why | None:
        """Return why a key goes, None if it stays; in ``report`` is noted what only just stays."""
        match own:
            case ContentKey():
                return self._why_content(stored, own, report)
            case CopyKey():
                young = stored.modified_at + self.grace_s > self.now
                return None if young or own.short_id in self.copies else Why.COPY
            case TemporaryKey():
                over = own.expires_at + TEMPORARY_SLACK_S <= self.now
                return Why.EXPIRED if over else None
            case PushKey():
                return Why.PUSH if stored.modified_at + LEASE_TTL_S <= self.now else None
            case RegistryKey():
                old = stored.modified_at + PROBE_ABANDONED_S <= self.now
                return Why.PROBE if own.probe and old else None

    def _why_content(self, stored: StoredKey, own: ContentKey, report: Report) -> Why | None:
        if own.digest in self.named:
            return None
        if own.digest in self.leased:
            report.held.add(stored.size_bytes)
        elif stored.modified_at + self.grace_s > self.now:
            report.young.add(stored.size_bytes)
        elif self.undescribed and own.is_file:
            report.kept_undescribed.add(stored.size_bytes)
        else:
            return Why.UNNAMED
        return None

    def abandons(self, upload: OpenUpload, own: OwnKey) -> bool:
        """Return whether an upload in parts is one that nobody will complete."""
        match own:
            case ContentKey():
                old = upload.begun_at + UPLOAD_ABANDONED_S <= self.now
                return old and own.digest not in self.leased
            case TemporaryKey():
                return own.expires_at + TEMPORARY_SLACK_S <= self.now
            case _:
                return False
