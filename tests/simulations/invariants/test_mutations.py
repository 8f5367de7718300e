"""Breaks the core on purpose, one function at a time: a run must then fail that passes unbroken.

What fails is an invariant, or a figure that the scenario is to reach. Machines and models are
small, since what is broken here breaks in every swarm.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from dreamer.protocol.relay_budget import RelayBudget
from dreamer.protocol.shaping.bucket import ByteBucket
from dreamer.protocol.shaping.uploads import Uploads
from dreamer.protocol.swarm import asking, bitfield, endgame, source
from dreamer.protocol.swarm.asking import Asking
from dreamer.protocol.swarm.crowd import Crowd
from dreamer.protocol.swarm.download import Download
from dreamer.protocol.swarm.gathering import Connect, Gathering
from dreamer.protocol.swarm.giving import Giving
from dreamer.protocol.swarm.source import Source
from dreamer.protocol.swarm.vocabulary import BlockVerified, Fetch, Share
from dreamer.simulations.engine.outcome import simulate
from dreamer.simulations.invariants import Watch
from dreamer.simulations.report.result import RunResult
from dreamer.simulations.scenario.model import (
    Group,
    ModelSpec,
    OriginSpec,
    Relay,
    Scenario,
    Wish,
)

Patch = Callable[[pytest.MonkeyPatch], None]
PULLS = (Wish("m", 0.0, 0.5),)


def scenario(*groups: Group, **more: object) -> Scenario:
    model = ModelSpec("m", 0.1)
    said = {"block_mib": 4, "until_s": 600.0, **more}
    return Scenario("mutated", "", (model,), groups, **said)


def seeds(count: int = 1, **more: object) -> Group:
    return Group("seeds", count, **{"up_mbit": 100.0, "holds": ("m",), **more})


def takers(count: int = 5, **more: object) -> Group:
    return Group("takers", count, **{"up_mbit": 100.0, "down_mbit": 100.0, "pulls": PULLS, **more})


CROWD = scenario(seeds(), takers())
WITH_ORIGIN = scenario(takers(), seeds(), origin=OriginSpec(holds=("m",)))
ONLY_ORIGIN = scenario(takers(6), origin=OriginSpec(holds=("m",)))
LIARS = scenario(seeds(), takers(), Group("liars", 2, holds=("m",), misdeed="bad_blocks"))
RELAYED = scenario(
    seeds(nat="symmetric"),
    takers(2, nat="symmetric", relay_budget_mib=40),
    relays=(Relay(),),
    origin=OriginSpec(holds=("m",)),
)
LIMITED = scenario(seeds(up_limit_mbit=40.0), takers(3))
LIMITED_DOWN = scenario(seeds(2), takers(2, down_limit_mbit=40.0))
MANY = scenario(seeds(up_mbit=400.0), takers(18), block_mib=16)
# Who is there first asks for what turns out to be others' to fetch, and takes it back.
LATECOMERS = scenario(seeds(up_mbit=50.0), takers(4, pulls=(Wish("m", 0.0, 4.0),)), block_mib=1)
ONE_SLOW = scenario(seeds(), Group("slow", 1, up_mbit=2.0, holds=("m",)), takers(1))
UNEVEN = scenario(seeds(), Group("slow", 2, up_mbit=2.0, holds=("m",)), takers(2, up_mbit=100.0))


def handle_and_share(handle: Callable) -> Callable:
    """Offer a block as soon as it is asked for."""

    def offers(self, event, now):
        commands = handle(self, event, now)
        asked = [one for one in commands if isinstance(one, Fetch)]
        return commands + [Share(bitfield.span(one.first, one.count)) for one in asked]

    return offers


def believe(self, event, now):
    """Take a block with the wrong hash for a right one."""
    return self._on_verified(BlockVerified(event.source, event.request, event.block), now)


def not_linking(tick: Callable) -> Callable:
    """Look for others, and link to none of them."""

    def ticks(self, view, now):
        return [one for one in tick(self, view, now) if not isinstance(one, Connect)]

    return ticks


@dataclass(frozen=True)
class Mutation:
    """``patches``: what is set to what. ``breaks``: the invariant, or else a figure is missed."""

    name: str
    scenario: Scenario
    patches: list[tuple[object, str, object]]
    breaks: str = ""
    reaches: Callable[[RunResult], bool] = field(default=lambda result: True)


MUTATIONS = [
    Mutation(
        "the verification is skipped",
        LIARS,
        [(Download, "_on_rejected", believe)],
        "verified",
    ),
    Mutation(
        "blocks are offered before they are verified",
        CROWD,
        [(Download, "handle", handle_and_share(Download.handle))],
        "verified",
    ),
    Mutation(
        "the relay budget is ignored",
        RELAYED,
        [(RelayBudget, "_share", lambda self, drawing, now: 1 << 40)],
        "relay budget",
    ),
    Mutation(
        "limits of the rate are ignored on the way out",
        LIMITED,
        [(ByteBucket, "level", lambda self, now: float("inf"))],
        "limit of the uplink",
    ),
    Mutation(
        "limits of the rate are ignored on the way in",
        LIMITED_DOWN,
        [(ByteBucket, "level", lambda self, now: float("inf"))],
        "limit of the downlink",
    ),
    Mutation(
        "whoever serves forgets what was cancelled",
        LATECOMERS,
        [(Giving, "_cancel", lambda self, link, request, block: [])],
        "served once",
    ),
    Mutation(
        "whoever pulls forgets to cancel copies",
        UNEVEN,
        [(Asking, "cancel_copies", lambda self, blocks, *, anywhere: [])],
        "copies are called off",
    ),
    Mutation(
        "everybody has an upload slot",
        MANY,
        [(Uploads, "admits", lambda self, peer, lane, lan, now: True)],
        "upload slots",
    ),
    Mutation(
        "a source is asked for whatever it has, at once",
        scenario(seeds(), takers(1)),
        [
            (source, "REQUESTS_IN_FLIGHT_MAX", 1000),
            (Source, "room_blocks", lambda self, now, sharers=1: 1),
        ],
        "requests in flight",
    ),
    Mutation(
        "the end has as many copies as sources",
        scenario(seeds(4, up_mbit=20.0), Group("slow", 1, up_mbit=1.0, holds=("m",)), takers(1)),
        [(endgame, "ENDGAME_MAX_COPIES", 9)],
        "requests in flight",
    ),
    Mutation(
        "the origin is asked first",
        WITH_ORIGIN,
        [(Asking, "_allowed", lambda self, source, now: source.blocks)],
        "origin spared",
    ),
    Mutation(
        "nobody is linked to",
        CROWD,
        [(Gathering, "tick", not_linking(Gathering.tick))],
        "whoever can, finishes",
    ),
    Mutation(
        "there is no endgame",
        ONE_SLOW,
        [(asking, "takeover", lambda idle, owed, allowed: None)],
        reaches=lambda result: result.last_s < 20,
    ),
    Mutation(
        "nobody is relieved",
        UNEVEN,
        [(asking, "relief", lambda idle, owed, allowed: None)],
        reaches=lambda result: result.last_s < 20,
    ),
    Mutation(
        "what a crowd is to fetch is not shared out",
        ONLY_ORIGIN,
        [(Crowd, "due", lambda self, fresh, now, help_over_s=0.0: fresh)],
        reaches=lambda result: result.origin.copies < 1.2,
    ),
]


def run(mutation: Mutation) -> tuple[set[str], RunResult]:
    watch = Watch()
    result = simulate(mutation.scenario, 1, observers=watch.observers)
    return {each.invariant for each in watch.violations}, result


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda one: one.name)
def test_core_that_is_broken_fails_where_the_whole_one_passes(mutation, monkeypatch) -> None:
    broken, result = run(mutation)
    assert not broken
    assert mutation.reaches(result)
    for where, name, instead in mutation.patches:
        monkeypatch.setattr(where, name, instead)
    broken, result = run(mutation)
    if mutation.breaks:
        assert mutation.breaks in broken
    else:
        assert not mutation.reaches(result)
