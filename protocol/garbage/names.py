"""Which models a room's registry names, so that their content stays at the origin."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from dreamer.protocol.ids import Digest, ManifestId
from dreamer.protocol.registry.reports import Fault
from dreamer.protocol.registry.view import Verified


@dataclass(frozen=True)
class RoomNames:
    """The models that a registry names, each with its torrent's metadata, if it is public.

    ``serial`` is the last of any of the registry's changes; ``unreadable`` says which of its parts
    this version of Dreamer can't read: they may name content too.
    """

    serial: int
    models: Mapping[ManifestId, Digest | None] = field(default_factory=dict)
    unreadable: tuple[str, ...] = ()


def names_in(verified: Verified, now: float, grace_s: float) -> RoomNames:
    """Return what a registry names at ``now``; what was withdrawn, for ``grace_s`` longer.

    An entry that can't be believed names its model all the same: keeping costs a little money, and
    its author's membership may only have yet to be heard of. A withdrawal must be believed.
    Temporary uploads are not named: their content is of their own, and its keys say when it goes.
    """
    gone = verified.registry.withdrawn
    models: dict[ManifestId, Digest | None] = {}
    for manifest_id, published in verified.document.models.items():
        entry = published.entry.said
        if entry.expires_at is None and manifest_id not in gone:
            models[manifest_id] = entry.torrent.metadata if entry.torrent else None
    for manifest_id, record in gone.items():
        if record.at + grace_s > now:
            models.setdefault(manifest_id, None)
    unreadable = [one.where for one in verified.reports if one.fault is Fault.MALFORMED]
    # Not that of what is believed: it would go back when a member is removed.
    return RoomNames(verified.last_serial, models, tuple(unreadable))
