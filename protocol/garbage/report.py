"""What a garbage collection found, and what it did about it."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from dreamer.protocol.ids import ManifestId
from dreamer.protocol.origin_limits import GARBAGE_LISTED_MAX


class Why(StrEnum):
    """Why a key goes."""

    UNNAMED = "no model of the room has it"
    EXPIRED = "a temporary upload whose time is over"
    COPY = "a copy by name of a model that is no longer in the room"
    PUSH = "left by a push that is over"
    PROBE = "left by a test of the store"
    ABANDONED = "an upload in parts that nobody completed"


@dataclass
class Tally:
    """A number of keys and their bytes together."""

    keys: int = 0
    size_bytes: int = 0

    def add(self, size_bytes: int) -> None:
        """Count one key."""
        self.keys += 1
        self.size_bytes += size_bytes


@dataclass
class Report:
    """One collection. What ``garbage`` holds was removed, if ``applied``, or else would have been.

    ``young`` is named by nobody but still within the grace period; ``held`` by a push alone.
    ``foreign`` are keys that are none of ours, the first of them by name: they are never touched.
    ``undescribed`` are models whose manifest is not at the origin: while there are any, no file
    goes. ``failed`` keys could not be removed; ``unfinished``: there was more than fits one
    collection. An abandoned upload counts as a key; of its size stores say nothing.
    """

    applied: bool = False
    looked_at: Tally = field(default_factory=Tally)
    garbage: dict[Why, Tally] = field(default_factory=dict)
    removed: Tally = field(default_factory=Tally)
    young: Tally = field(default_factory=Tally)
    held: Tally = field(default_factory=Tally)
    kept_undescribed: Tally = field(default_factory=Tally)
    undescribed: tuple[ManifestId, ...] = ()
    foreign_keys: int = 0
    foreign: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    unfinished: bool = False

    def found(self, why: Why, size_bytes: int) -> None:
        """Count a key that goes."""
        self.garbage.setdefault(why, Tally()).add(size_bytes)

    def alien(self, key: str) -> None:
        """Note a key that isn't ours."""
        self.foreign_keys += 1
        if len(self.foreign) < GARBAGE_LISTED_MAX:
            self.foreign.append(key)
