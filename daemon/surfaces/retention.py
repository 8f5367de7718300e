"""What a room keeps, what goes, and the garbage at its origin, as people are told of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class KeepRules:
    """A room's rules: a model stays if any of them keeps it; with no rule, every one stays.

    ``keep_last``: so many of the models that each alias meant last. ``keep_tagged``: with one of
    these tags; ``keep_any_tag``: with any. ``max_age_s``: published no longer ago.
    """

    keep_last: int | None = None
    keep_tagged: tuple[str, ...] = ()
    keep_any_tag: bool = False
    max_age_s: int | None = None


@dataclass(frozen=True)
class PolicyInfo:
    """A room's rules, and the same as lines for people; ``said`` is empty when there are none."""

    room: str
    rules: KeepRules
    said: tuple[str, ...] = ()


@dataclass(frozen=True)
class Judged:
    """A model, and why it stays; without a reason it goes. ``at`` in epoch seconds."""

    manifest_id: str
    short_id: str
    name: str
    size_bytes: int
    at: float
    tags: tuple[str, ...]
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class RetentionReport:
    """What a room's rules keep and what goes, the newest first; ``applied``: it was withdrawn."""

    room: str
    applied: bool
    said: tuple[str, ...]
    kept: tuple[Judged, ...]
    going: tuple[Judged, ...]


@dataclass(frozen=True)
class GarbageKind:
    """Keys of one kind that go, and why."""

    why: str
    keys: int
    size_bytes: int


@dataclass(frozen=True)
class GarbageReport:
    """What lies at a room's origin that goes; removed if ``applied``. Sizes in bytes.

    Of what stays: ``young`` is within the grace period of ``grace_s``, ``held`` belongs to pushes
    under way, ``undescribed`` are files kept because these ``models`` (short ids) have no manifest
    at the origin, and ``foreign`` keys are not Dreamer's (the first of them by name). ``failed``
    keys could not be removed. ``unfinished``: collect again for the rest. ``rules``: whether the
    store itself removes temporary uploads (``lifecycle``), or somebody has to (``sweep``).
    """

    room: str
    origin: str
    applied: bool
    grace_s: float
    looked_at_keys: int
    looked_at_bytes: int
    garbage: tuple[GarbageKind, ...]
    removed_keys: int
    removed_bytes: int
    young_keys: int
    young_bytes: int
    held_keys: int
    held_bytes: int
    undescribed_keys: int
    undescribed_bytes: int
    models: tuple[str, ...]
    foreign_keys: int
    foreign: tuple[str, ...]
    failed: tuple[str, ...]
    unfinished: bool
    rules: str


class Retention(Protocol):
    """What the rooms of a node keep. A room of None is the only one; raises DreamerError."""

    async def policy(self, room: str | None) -> PolicyInfo:
        """Return a room's rules."""
        ...

    async def set_policy(self, room: str | None, rules: KeepRules) -> PolicyInfo:
        """Set a room's rules, all of them. For admins."""
        ...

    async def retain(self, room: str | None, apply: bool) -> RetentionReport:
        """Return what the rules keep and what goes; ``apply``: withdraw what goes."""
        ...

    async def collect(self, room: str | None, apply: bool, grace_s: float) -> GarbageReport:
        """Return what of a room's origin nobody names; ``apply``: remove it."""
        ...
