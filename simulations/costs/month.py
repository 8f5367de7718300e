"""A room's month: who loads what when, what the cache has, and who else could give it.

Nothing is moved here. What comes out is what the three ways are made of: every load; those that a
cache of one's own does not answer; and for these, who was there and had the model.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from random import Random

from dreamer.simulations.costs.cache import Cache
from dreamer.simulations.costs.presence import DAY_S, Member, Stay, workdays_share
from dreamer.simulations.costs.shelf import GB, MONTH_S, Shelf, Version
from dreamer.simulations.costs.workload import Machines, Workload
from dreamer.simulations.scenario.model import NatKind

SETTLED_S = 60.0
"""A pull that begins this long after the one before it should have ended is a swarm of its own."""

_SLACK = 3.0
_BYTES_PER_MBIT = 125_000.0


@dataclass(frozen=True)
class Place:
    """A machine in a swarm: at home or not, with which NAT at home, and when it goes (None: not
    for as long as matters). ``from_s``: since the swarm began."""

    at_home: bool
    home_nat: NatKind
    from_s: float = 0.0
    goes_s: float | None = None


@dataclass
class Swarm:
    """Pulls of one model at about the same time, and those who have it and are there."""

    room: int
    version: Version
    began_s: float
    last_s: float
    pulls: list[Place] = field(default_factory=list)
    seeds: list[Place] = field(default_factory=list)


@dataclass(frozen=True)
class Load:
    """One load of a model; ``cached``: it was in the machine's own store."""

    at_s: float
    version: Version
    place: Place
    cached: bool


@dataclass
class RoomMonth:
    """What happened in one room in the month that counts."""

    room: int
    loads: list[Load] = field(default_factory=list)
    swarms: list[Swarm] = field(default_factory=list)
    released_bytes: list[int] = field(default_factory=list)
    """Sizes of the versions that were published."""


def live(workload: Workload, room: int, seed: int) -> RoomMonth:
    """Return a room's month, after its warm-up."""
    return _Room(workload, room, seed).live()


class _Room:
    def __init__(self, workload: Workload, room: int, seed: int) -> None:
        self._workload = workload
        self._from_s = workload.warm_up_days * DAY_S
        self._until_s = self._from_s + workload.days * DAY_S
        self._shelf = Shelf(workload, room, Random(f"{seed}/{room}/shelf"), self._until_s)
        count = range(workload.members(room))
        self._members = [Member(workload, Random(f"{seed}/{room}/{who}/days")) for who in count]
        self._wishes = [Random(f"{seed}/{room}/{who}/wishes") for who in count]
        self._caches = [Cache(workload.machines.cache_gb * GB) for _ in count]
        self._recent = [deque[int](maxlen=workload.people.working_set) for _ in count]
        self._open: dict[Version, Swarm] = {}
        self._month = RoomMonth(room)

    def live(self) -> RoomMonth:
        for at_s, who in self._moments():
            self._load(at_s, who)
        for rank, releases in self._shelf.released_s.items():
            size = self._shelf.sizes[rank]
            self._month.released_bytes += [size for at in releases if at >= self._from_s]
        return self._month

    def _moments(self) -> list[tuple[float, int]]:
        """Draw when who loads something: in their hours, as often on any day at work."""
        per_month = self._workload.people.loads_per_month
        per_day = per_month / (MONTH_S / DAY_S * workdays_share(self._workload.people))
        drawn = []
        for who, member in enumerate(self._members):
            for stay in member.stays:
                times = _times(stay, per_day, self._wishes[who])
                drawn += [(at_s, who) for at_s in times]
        return sorted(drawn)

    def _load(self, now: float, who: int) -> None:
        version = self._shelf.newest(self._wanted(who), now)
        holders = [one for one in self._holders(version, now) if one != who]
        cached = self._caches[who].use(version)
        if now >= self._from_s:
            self._month.loads.append(Load(now, version, self._place(who, now), cached))
        if not cached:
            self._pull(now, who, version, holders)

    def _wanted(self, who: int) -> int:
        """Return the rank of what somebody loads: one of their own last few, or another."""
        rng, recent = self._wishes[who], self._recent[who]
        again = rng.random() < self._workload.people.reload_share
        rank = rng.choice(list(recent)) if again and recent else self._shelf.draw(rng)
        if rank not in recent:
            recent.append(rank)
        return rank

    def _holders(self, version: Version, now: float) -> list[int]:
        return [
            who
            for who, cache in enumerate(self._caches)
            if version in cache and self._members[who].online(now)
        ]

    def _pull(self, now: float, who: int, version: Version, holders: list[int]) -> None:
        swarm = self._open.get(version)
        if swarm is None or now - swarm.last_s > _lasts_s(self._workload.machines, version):
            swarm = self._open[version] = Swarm(self._month.room, version, now, now)
            swarm.seeds = [self._place(holder, now) for holder in holders]
            if now >= self._from_s:
                self._month.swarms.append(swarm)
        swarm.last_s = now
        # Whoever pulls stays until it is through.
        place = self._place(who, now)
        swarm.pulls.append(Place(place.at_home, place.home_nat, now - swarm.began_s))

    def _place(self, who: int, now: float) -> Place:
        member = self._members[who]
        goes_at = member.goes_at(now)
        goes_s = None if goes_at is None else goes_at - now
        return Place(member.at_home(now), member.home_nat, goes_s=goes_s)


def _times(stay: Stay, per_day: float, rng: Random) -> list[float]:
    """Draw a Poisson number of moments in a stay."""
    times = []
    at_s = stay.from_s
    rate = per_day / (stay.to_s - stay.from_s)
    while rate > 0 and (at_s := at_s + rng.expovariate(rate)) < stay.to_s:
        times.append(at_s)
    return times


def _lasts_s(machines: Machines, version: Version) -> float:
    """Return within what time others may find a pull under way, on the slowest of lines."""
    slowest = min(machines.home_down_mbit, machines.office_down_mbit) * _BYTES_PER_MBIT
    return SETTLED_S + math.ceil(_SLACK * version.size_bytes / slowest)
