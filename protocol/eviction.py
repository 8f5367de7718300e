"""Which models a full cache gives up, decided from what it holds: least recently used first.

Files belong to several models at once (versions of a model share most of theirs), so a model gives
back only what no other model that stays names. Never given up: what is in use, what is pinned, what
has just come. What has expired goes before all others. Nothing is given up in vain: if all that may
go is too little, nothing goes, and the plan says what else would have to.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum

from dreamer.protocol.ids import Digest, ManifestId


class Kept(Enum):
    """Why a model may not be given up; the word is what a person reads."""

    IN_USE = "in use"
    PINNED = "pinned"
    ONLY_COPY = "pushed here and not known to be elsewhere"
    UNASKED = "kept, as no quota is set"
    YOUNG = "just fetched"


@dataclass(frozen=True)
class Candidate:
    """One model as the cache holds it. Times: epoch seconds.

    ``files`` holds the bytes on disk of each file of it that is here, which others may name, too;
    ``own_bytes`` what no other model can have: its partial files, its description.
    """

    manifest_id: ManifestId
    files: Mapping[Digest, int]
    own_bytes: int = 0
    last_used: float = 0.0
    expires_at: float | None = None
    stays: Kept | None = None
    """A reason why it must stay, if there is one."""

    def kept(self, now: float, grace_s: float) -> Kept | None:
        """Return why it must stay, None if it may go."""
        if self.expired(now):
            # Nobody will ask for it again; but who uses it, or said that it stays, is heard.
            return self.stays if self.stays in (Kept.IN_USE, Kept.PINNED) else None
        if self.stays is None and self.last_used > now - grace_s:
            return Kept.YOUNG
        return self.stays

    def expired(self, now: float) -> bool:
        """Return whether its time is over."""
        return self.expires_at is not None and self.expires_at <= now


@dataclass(frozen=True)
class Plan:
    """What goes, in this order, and the bytes that this gives back.

    Not ``enough``: nothing goes, though ``freed_bytes`` could; ``blocked`` are the models that
    would have to go besides, with the reason why they may not, and ``missing_bytes`` what even all
    of them would not give.
    """

    enough: bool
    victims: tuple[ManifestId, ...] = ()
    freed_bytes: int = 0
    blocked: tuple[tuple[ManifestId, Kept], ...] = ()
    missing_bytes: int = 0


@dataclass
class _Count:
    """How many models that stay name each file, and what has been given back so far."""

    names: Counter[Digest]
    gone: list[Candidate] = field(default_factory=list)
    freed_bytes: int = 0

    def remove(self, model: Candidate) -> int:
        """Take a model out; return the bytes that only it held."""
        freed = model.own_bytes
        for digest, size_bytes in model.files.items():
            self.names[digest] -= 1
            if not self.names[digest]:
                freed += size_bytes
        self.gone.append(model)
        self.freed_bytes += freed
        return freed

    def put_back(self, model: Candidate) -> None:
        """Undo ``remove``."""
        self.gone.remove(model)
        self.freed_bytes -= model.own_bytes
        for digest, size_bytes in model.files.items():
            if not self.names[digest]:
                self.freed_bytes -= size_bytes
            self.names[digest] += 1


def choose(models: Sequence[Candidate], wanted_bytes: int, now: float, grace_s: float) -> Plan:
    """Return what to give up so that ``wanted_bytes`` come free."""
    if wanted_bytes <= 0:
        return Plan(enough=True)
    count = _Count(Counter(digest for model in models for digest in model.files))
    ordered = sorted(models, key=lambda model: _order(model, now))
    for model in ordered:
        if model.kept(now, grace_s) is None and count.freed_bytes < wanted_bytes:
            count.remove(model)
    if count.freed_bytes < wanted_bytes:
        return _refusal(ordered, count, wanted_bytes, now, grace_s)
    _spare(count, wanted_bytes)
    return Plan(True, tuple(model.manifest_id for model in count.gone), count.freed_bytes)


def _order(model: Candidate, now: float) -> tuple[bool, float, ManifestId]:
    return (not model.expired(now), model.last_used, model.manifest_id)


def _spare(count: _Count, wanted_bytes: int) -> None:
    """Put back what is not needed after all, the most recently used first.

    An old model of a few bytes, or one whose files another names, may have been taken in vain.
    """
    for model in reversed(list(count.gone)):
        count.put_back(model)
        if count.freed_bytes < wanted_bytes:
            count.remove(model)
    # Removing appends, so what was put back and taken again stands in the reverse order.
    count.gone.reverse()


def _refusal(
    ordered: Sequence[Candidate], count: _Count, wanted_bytes: int, now: float, grace_s: float
) -> Plan:
    could = count.freed_bytes
    reasons = {model.manifest_id: model.kept(now, grace_s) for model in ordered}
    for model in ordered:
        if reasons[model.manifest_id] is not None and count.freed_bytes < wanted_bytes:
            count.remove(model)
    missing = max(0, wanted_bytes - count.freed_bytes)
    if not missing:
        _spare(count, wanted_bytes)
    # What may go anyway needs nobody's leave.
    blocked = ((model.manifest_id, reasons[model.manifest_id]) for model in count.gone)
    return Plan(
        False,
        freed_bytes=could,
        blocked=tuple((name, why) for name, why in blocked if why is not None),
        missing_bytes=missing,
    )


def shares(models: Iterable[Candidate]) -> dict[ManifestId, int]:
    """Return for each model the bytes that would come free if it alone were given up."""
    listed = list(models)
    names = Counter(digest for model in listed for digest in model.files)
    return {
        model.manifest_id: model.own_bytes
        + sum(size for digest, size in model.files.items() if names[digest] == 1)
        for model in listed
    }
