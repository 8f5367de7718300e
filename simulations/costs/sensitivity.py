"""Which assumptions move the result: each varied down and up, and simulated again.

On a sample of rooms, all with the same seed: a person's days and wishes are drawn from streams of
their own, so that what differs between two runs is the assumption, as far as it can be.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dreamer.simulations.costs.bill import Prices, price
from dreamer.simulations.costs.ways import Ways, three_ways
from dreamer.simulations.costs.workload import Workload


@dataclass(frozen=True)
class Assumption:
    """One number of the workload, and what it might as well be. ``path``: as in the file."""

    path: str
    low: float
    high: float
    meaning: str


ASSUMPTIONS = (
    Assumption("users_per_room", 10, 100, "people who can help each other"),
    Assumption("warm_up_days", 0, 360, "how long models have been in use before"),
    Assumption("people.reload_share", 0.6, 0.9, "loads of one of the last few models"),
    Assumption("people.present_share", 0.5, 1.0, "workdays on which somebody is there"),
    Assumption("people.always_on_share", 0.0, 0.3, "machines that are never off"),
    Assumption("people.home_share", 0.0, 0.8, "days at home, behind its line and NAT"),
    Assumption("catalogue.zipf", 0.6, 1.2, "how much more popular models are wanted"),
    Assumption("catalogue.versions_per_room_month", 0, 24, "new versions of models"),
    Assumption("machines.cache_gb", 5, 200, "what a machine keeps"),
    Assumption("machines.symmetric_share", 0.0, 0.3, "homes whose NAT needs a relay"),
    Assumption("machines.relay_budget_mib", 1, 4096, "what a relay may carry for one machine"),
)


@dataclass(frozen=True)
class Outcome:
    """Egress of a month three ways, and what all of the month with peers costs, in dollars."""

    everything_usd: float
    caches_usd: float
    peers_usd: float
    peers_total_usd: float


@dataclass(frozen=True)
class Effect:
    """What one assumption does: ``value`` is the study's, with the outcomes of both others."""

    assumption: Assumption
    value: float
    low: Outcome
    high: Outcome

    @property
    def span_usd(self) -> float:
        """How far apart the totals with peers are."""
        return abs(self.high.peers_total_usd - self.low.peers_total_usd)


@dataclass(frozen=True)
class Sensitivity:
    """All effects, the largest first, on ``users`` of the people; scaled up to all of them."""

    users: int
    base: Outcome
    effects: tuple[Effect, ...]


def outcome(ways: Ways, prices: Prices, scale: float) -> Outcome:
    """Return what the month costs in each way."""
    everything, caches, peers = (
        price(traffic, prices, scale) for traffic in (ways.everything, ways.caches, ways.peers)
    )
    return Outcome(
        everything.egress_usd + everything.cross_region_usd,
        caches.egress_usd + caches.cross_region_usd,
        peers.egress_usd + peers.cross_region_usd,
        peers.total_usd,
    )


def sensitivity(
    workload: Workload,
    prices: Prices,
    seed: int,
    users: int,
    report: Callable[[str], None] = lambda line: None,
    assumptions: Sequence[Assumption] = ASSUMPTIONS,
) -> Sensitivity:
    """Return what each assumption does to the month, seen on about ``users`` of the people."""

    def simulated(varied: Workload, what: str) -> Outcome:
        report(what)
        rooms = sample(varied, users)
        return outcome(three_ways(varied, rooms, seed), prices, scale(varied, rooms))

    effects = []
    for one in assumptions:
        low = simulated(with_value(workload, one.path, one.low), f"{one.path} = {one.low:g}")
        high = simulated(with_value(workload, one.path, one.high), f"{one.path} = {one.high:g}")
        effects.append(Effect(one, value_of(workload, one.path), low, high))
    effects.sort(key=lambda effect: -effect.span_usd)
    base = simulated(workload, "as the study has it")
    return Sensitivity(people_in(workload, sample(workload, users)), base, tuple(effects))


def sample(workload: Workload, users: int) -> range:
    """Return evenly spread rooms with about so many people; the same ones each time."""
    wanted = max(1, min(workload.rooms, round(users / workload.users_per_room)))
    return range(0, workload.rooms - workload.rooms % wanted, workload.rooms // wanted)


def people_in(workload: Workload, rooms: Sequence[int]) -> int:
    """Return how many people some rooms have."""
    return sum(workload.members(room) for room in rooms)


def scale(workload: Workload, rooms: Sequence[int]) -> float:
    """Return what to multiply the traffic of some rooms by for that of all people."""
    return workload.users / people_in(workload, rooms)


def value_of(workload: Workload, path: str) -> float:
    """Return a number of the workload by its path in the file."""
    found: Any = workload
    for name in path.split("."):
        found = getattr(found, name)
    return float(found)


def with_value(workload: Workload, path: str, value: float) -> Workload:
    """Return the workload with one number changed."""
    table, _, name = path.rpartition(".")
    owner: Any = getattr(workload, table) if table else workload
    whole = isinstance(getattr(owner, name), int)
    changed = replace(owner, **{name: int(value) if whole else value})
    return replace(workload, **{table: changed}) if table else changed
