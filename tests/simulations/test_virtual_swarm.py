"""Small swarms in virtual time: who gets what from whom when machines leave, lie or hang."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from dreamer.protocol.content.layout import Layout
from dreamer.protocol.limits import (
    MIB,
    PULL_NO_SOURCE_TIMEOUT_S,
    PULL_STALL_TIMEOUT_S,
    REQUEST_TIMEOUT_S,
)
from dreamer.protocol.swarm.vocabulary import Lane
from dreamer.simulations.virtual_swarm import Machine, VirtualSwarm

MODEL = Layout([100 * MIB, 3 * MIB + 5, 0, 97 * MIB])
SIZE = MODEL.block_count * MIB - (MIB - 5)
SEEDER = Machine("seeder", has_all=True)
ORIGIN = Machine("origin", is_origin=True)


def leechers(count: int) -> list[Machine]:
    return [Machine(f"leecher{number}") for number in range(count)]


def ran(*machines: Machine, seed: int = 1):
    swarm = VirtualSwarm(MODEL, machines, seed)
    return swarm.run(), swarm.trace_hash


def origin_bytes(outcomes) -> int:
    return sum(one.by_lane.get(Lane.ORIGIN, 0) for one in outcomes.values())


def test_one_seeder_fans_out_to_eight_and_the_origin_gives_nothing() -> None:
    outcomes, _ = ran(SEEDER, ORIGIN, *leechers(8))
    eight = [one for name, one in outcomes.items() if name.startswith("leecher")]
    assert all(one.finished_at is not None for one in eight)
    assert [one.by_lane[Lane.WEBRTC] for one in eight] == [SIZE] * 8
    assert origin_bytes(outcomes) == 0
    assert outcomes["seeder"].served_bytes < 3 * SIZE, "they get most of it from each other"


def test_when_the_seeder_leaves_the_origin_gives_only_what_nobody_got() -> None:
    whole, _ = ran(SEEDER, ORIGIN, *leechers(4))
    # All blocks have left the seeder after about the time of one copy; leave before that.
    leaves_at = 0.6 * SIZE / SEEDER.up_bytes_s
    outcomes, _ = ran(Machine("seeder", has_all=True, leaves_at=leaves_at), ORIGIN, *leechers(4))
    four = [one for name, one in outcomes.items() if name.startswith("leecher")]
    assert all(one.finished_at is not None for one in four)
    assert origin_bytes(outcomes) > 0
    for one in four:
        assert sum(one.by_lane.values()) == SIZE
        assert one.by_lane[Lane.ORIGIN] < 0.6 * SIZE
    assert all(one.finished_at is not None for name, one in whole.items() if "leecher" in name)


def test_a_liar_among_five_sources_is_blamed_and_the_pull_finishes() -> None:
    honest = [Machine(f"seeder{number}", has_all=True) for number in range(4)]
    outcomes, _ = ran(*honest, Machine("liar", has_all=True, lies=True), Machine("leecher"))
    assert outcomes["leecher"].blamed == ["liar"]
    assert outcomes["leecher"].finished_at is not None
    assert outcomes["leecher"].by_lane[Lane.WEBRTC] == SIZE


def test_the_only_source_hanging_ends_the_pull_with_a_reason_and_keeps_what_came() -> None:
    swarm = VirtualSwarm(
        MODEL, [Machine("only", has_all=True, hangs_at=1.0), Machine("leecher")], 1
    )
    leecher = swarm.run()["leecher"]
    assert leecher.finished_at is None
    assert leecher.gave_up is not None
    assert "missing blocks" in leecher.gave_up
    assert 0 < leecher.by_lane[Lane.WEBRTC] < SIZE
    assert swarm.now < PULL_STALL_TIMEOUT_S + PULL_NO_SOURCE_TIMEOUT_S


def test_a_source_that_hangs_costs_seconds_not_the_pull() -> None:
    quick, _ = ran(SEEDER, Machine("other", has_all=True), Machine("leecher"))
    outcomes, _ = ran(
        SEEDER, Machine("other", has_all=True, hangs_at=1.0), Machine("leecher"), ORIGIN
    )
    late = outcomes["leecher"].finished_at
    assert late is not None
    assert quick["leecher"].finished_at is not None
    assert late < quick["leecher"].finished_at + REQUEST_TIMEOUT_S
    assert origin_bytes(outcomes) == 0


def test_a_swarm_without_anybody_who_has_it_all_gives_up() -> None:
    outcomes, _ = ran(*leechers(2))
    assert all(one.gave_up is not None for one in outcomes.values())


def test_slow_and_fast_sources_are_used_in_proportion() -> None:
    fast = Machine("fast", up_bytes_s=80.0 * MIB, has_all=True)
    slow = Machine("slow", up_bytes_s=20.0 * MIB, has_all=True)
    outcomes, _ = ran(fast, slow, Machine("leecher"))
    share = outcomes["slow"].served_bytes / SIZE
    assert 0.1 < share < 0.3
    assert outcomes["leecher"].finished_at == pytest.approx(SIZE / (100 * MIB), abs=1.0)


@pytest.mark.parametrize("seed", range(10))
def test_any_seed_ends_well(seed: int) -> None:
    outcomes, _ = ran(
        Machine("seeder", has_all=True, leaves_at=1.5),
        ORIGIN,
        Machine("liar", lies=True, has_all=True),
        Machine("stuck", has_all=True, hangs_at=0.5),
        *leechers(3),
        seed=seed,
    )
    for name, one in outcomes.items():
        if name.startswith("leecher"):
            assert one.finished_at is not None
            assert one.blamed in ([], ["liar"])
            assert sum(one.by_lane.values()) == SIZE


def test_another_seed_gives_another_trace() -> None:
    assert ran(SEEDER, *leechers(3), seed=1)[1] != ran(SEEDER, *leechers(3), seed=2)[1]


SCRIPT = """
from dreamer.protocol.content.layout import Layout
from dreamer.simulations.virtual_swarm import Machine, VirtualSwarm
machines = [Machine("seeder", has_all=True, leaves_at=0.8), Machine("origin", is_origin=True),
            Machine("liar", lies=True), *(Machine(f"leecher{n}") for n in range(4))]
swarm = VirtualSwarm(Layout([60 << 20, 40 << 20]), machines, 7)
swarm.run()
print(swarm.trace_hash)
"""


def test_the_same_seed_gives_the_same_trace_whatever_the_hash_seed() -> None:
    said = [
        subprocess.run(
            [sys.executable, "-c", SCRIPT],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            check=True,
            timeout=50,
        ).stdout
        for hash_seed in ("1", "2")
    ]
    assert said[0] == said[1]
    assert len(said[0].strip()) == 64
