"""When a person's machine is on, and where it stands."""

from __future__ import annotations

import bisect
from dataclasses import dataclass
from random import Random

from dreamer.simulations.costs.workload import Machines, People, Workload
from dreamer.simulations.scenario.model import NatKind

DAY_S = 86400.0
HOUR_S = 3600.0
_WEEK = 7
_WORKDAYS = 5


@dataclass(frozen=True)
class Stay:
    """A day at work: from, until, and whether at home."""

    from_s: float
    to_s: float
    at_home: bool


class Member:
    """One person of a room. Time begins on a Monday at midnight."""

    def __init__(self, workload: Workload, rng: Random) -> None:
        people = workload.people
        self.always_on = rng.random() < people.always_on_share
        self.home_nat = _home_nat(workload.machines, rng)
        days = range(workload.warm_up_days + workload.days)
        drawn = (_stay(people, day, rng) for day in days if day % _WEEK < _WORKDAYS)
        self.stays = [stay for stay in drawn if stay is not None]
        self._begins = [stay.from_s for stay in self.stays]

    def stay_at(self, now: float) -> Stay | None:
        """Return the day at work that ``now`` lies in."""
        found = bisect.bisect_right(self._begins, now) - 1
        if found >= 0 and now < self.stays[found].to_s:
            return self.stays[found]
        return None

    def online(self, now: float) -> bool:
        """Return whether the machine is on."""
        return self.always_on or self.stay_at(now) is not None

    def at_home(self, now: float) -> bool:
        """Return whether the machine is at somebody's home; one that is never off is not."""
        stay = self.stay_at(now)
        return stay is not None and stay.at_home and not self.always_on

    def goes_at(self, now: float) -> float | None:
        """Return when the machine is turned off; None: never."""
        stay = self.stay_at(now)
        return None if self.always_on or stay is None else stay.to_s


def workdays_share(people: People) -> float:
    """Return the share of all days on which a person works, on the average."""
    return people.present_share * _WORKDAYS / _WEEK


def _stay(people: People, day: int, rng: Random) -> Stay | None:
    # Always the same draws, so that a changed share changes no other day.
    present, home = rng.random(), rng.random()
    begins_h = people.begins_h + rng.uniform(-1, 1) * people.spread_h
    lasts_h = max(0.5, people.lasts_h + rng.uniform(-1, 1) * people.spread_h)
    if present >= people.present_share:
        return None
    from_s = day * DAY_S + max(0.0, begins_h) * HOUR_S
    to_s = min(from_s + lasts_h * HOUR_S, (day + 1) * DAY_S)
    return Stay(from_s, to_s, home < people.home_share)


def _home_nat(machines: Machines, rng: Random) -> NatKind:
    drawn = rng.random()
    shares: tuple[tuple[NatKind, float], ...] = (
        ("symmetric", machines.symmetric_share),
        ("no_udp", machines.no_udp_share),
        ("full_cone", machines.full_cone_share),
    )
    for kind, share in shares:
        if drawn < share:
            return kind
        drawn -= share
    return "port_restricted"
