"""Which models leave memory so that one more can be loaded.

Idle ones go by their last use (``lru``) or by how often they were used (``lfu``); one that is to
stay goes after all others: it comes back when it is asked for. Nothing goes in vain: if the idle
ones are not enough, none goes, and the answer names those that have to come to an end first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Eviction = Literal["lru", "lfu"]


@dataclass(frozen=True)
class Resident:
    """A model in memory. ``uses`` counts requests since it was loaded; ``busy``: it has some."""

    manifest_id: str
    memory_bytes: int
    last_used: float
    uses: int
    pinned: bool = False
    busy: bool = False


@dataclass(frozen=True)
class Bounds:
    """What may be in memory at once; 0 bytes mean no bound."""

    max_models: int
    max_memory_bytes: int = 0


@dataclass(frozen=True)
class Room:
    """How a model gets its room.

    ``victims`` go now, in this order. ``awaited``, if not empty, are busy, and go as soon as they
    are not. ``too_large``: it would not fit if everything else went.
    """

    victims: tuple[str, ...] = ()
    awaited: tuple[str, ...] = ()
    too_large: bool = False


def make_room(
    residents: Sequence[Resident], wanted_bytes: int, bounds: Bounds, how: Eviction
) -> Room:
    """Return what goes so that a model of ``wanted_bytes`` may be loaded."""
    if bounds.max_memory_bytes and wanted_bytes > bounds.max_memory_bytes:
        return Room(too_large=True)
    ordered = sorted(residents, key=lambda one: (one.busy, *_rank(one, how)))
    going: list[Resident] = []
    for one in ordered:
        if fits(residents, going, wanted_bytes, bounds):
            break
        going.append(one)
    going = _spared(residents, going, wanted_bytes, bounds)
    if busy := tuple(one.manifest_id for one in going if one.busy):
        return Room(awaited=busy)
    return Room(tuple(one.manifest_id for one in going))


def fits(
    residents: Sequence[Resident], going: Sequence[Resident], wanted_bytes: int, bounds: Bounds
) -> bool:
    """Say whether there is room once ``going`` are gone."""
    stay = [one for one in residents if one not in going]
    held_bytes = sum(one.memory_bytes for one in stay)
    if bounds.max_memory_bytes and held_bytes + wanted_bytes > bounds.max_memory_bytes:
        return False
    return len(stay) < max(1, bounds.max_models)


def _spared(
    residents: Sequence[Resident], going: list[Resident], wanted_bytes: int, bounds: Bounds
) -> list[Resident]:
    """Leave out whom a later, larger one made unnecessary, the most valued first."""
    for one in reversed(list(going)):
        others = [other for other in going if other is not one]
        if fits(residents, others, wanted_bytes, bounds):
            going = others
    return going


def _rank(one: Resident, how: Eviction) -> tuple[bool, float, float, str]:
    if how == "lfu":
        return (one.pinned, one.uses, one.last_used, one.manifest_id)
    return (one.pinned, one.last_used, one.uses, one.manifest_id)
