"""What sources gain is read when it is of use, and is known by then."""

from __future__ import annotations

import itertools
from random import Random

from dreamer.protocol.content.layout import Layout
from dreamer.protocol.limits import (
    MIB,
    PULL_AHEAD_MIN_BLOCKS,
    PULL_AHEAD_MIN_BYTES,
    PULL_AHEAD_S,
    PULL_SLOW_BYTES_S,
)
from dreamer.protocol.swarm import bitfield
from dreamer.protocol.swarm.download import Download
from dreamer.protocol.swarm.vocabulary import (
    BlockVerified,
    DiscoveryEnded,
    Fetch,
    Lane,
    SourceGained,
    SourceId,
    SourceJoined,
    SourceLost,
)

A, B, C = SourceId("a"), SourceId("b"), SourceId("c")
COARSE = 64 * MIB
BLOCKS = 40
AHEAD_BLOCKS = max(PULL_AHEAD_MIN_BYTES // COARSE, PULL_AHEAD_MIN_BLOCKS)
SLOW_S = max(PULL_AHEAD_S, COARSE / PULL_SLOW_BYTES_S)


def fetches(commands) -> list[Fetch]:
    return [command for command in commands if isinstance(command, Fetch)]


def joined(source: SourceId, blocks: int) -> SourceJoined:
    return SourceJoined(source, Lane.WEBRTC, blocks, fetching=True)


def full_pull(play):
    """A pull that has asked for all it may have under way, and C, that holds nothing yet."""
    plan = play(MIB)
    plan.layout = Layout([BLOCKS * COARSE], COARSE)
    plan.core = Download(plan.layout, 0, itertools.count(1), Random(1), plan.now)
    plan >> DiscoveryEnded()
    plan >> joined(C, 0)
    for number in range(AHEAD_BLOCKS + 1):
        # None of them has the last block.
        plan >> joined(SourceId(f"s{number}"), plan.everything >> 1)
    assert sum(fetch.count for fetch in fetches(plan.said)) == AHEAD_BLOCKS
    return plan


def test_a_gain_is_used_once_there_is_room_though_it_was_told_before(play) -> None:
    plan = full_pull(play)
    last = plan.layout.block_count - 1
    assert plan >> SourceGained(C, 1 << last) == []
    # What was asked for comes, so that more may be asked: of the one that has what is left.
    asked = [f for fetch in fetches(plan.said) for f in fetches(plan.after(0.01).deliver(fetch))]
    assert (C, last) in [(fetch.source, fetch.first) for fetch in asked]


def test_only_a_gain_of_no_use_at_this_moment_is_put_off(play) -> None:
    plan = full_pull(play)
    last = SourceGained(C, 1 << plan.layout.block_count - 1)
    assert plan.core.puts_off(last, plan.now), "as much as may be is under way"
    plan = play(MIB)
    plan >> joined(C, 0)
    plan >> DiscoveryEnded()
    assert not plan.core.puts_off(SourceGained(C, 1), plan.now)
    assert fetches(plan >> SourceGained(C, 1))


def test_a_gain_of_one_that_is_lost_meanwhile_is_not_asked_for(play) -> None:
    plan = full_pull(play)
    last = plan.layout.block_count - 1
    plan >> SourceGained(C, 1 << last)
    plan >> SourceLost(C)
    for fetch in fetches(plan.said):
        plan.after(0.01).deliver(fetch)
    assert all(fetch.source != C for fetch in fetches(plan.said))


def test_slow_sources_stop_counting_so_that_others_are_asked_by_time_alone(play) -> None:
    plan = full_pull(play)
    last = plan.layout.block_count - 1
    assert plan.core.next_wake(plan.now) <= plan.now + SLOW_S
    plan.now += SLOW_S
    assert C in [fetch.source for fetch in fetches(plan >> SourceGained(C, 1 << last))]


def test_gains_told_apart_count_like_gains_told_together(play) -> None:
    def rarest_asked(*gains: int) -> list[Fetch]:
        plan = play(8 * MIB)
        plan >> joined(A, 0)
        plan >> joined(B, bitfield.full(8))
        for blocks in gains:
            plan >> SourceGained(A, blocks)
        first = fetches(plan.said)[0]
        return fetches(plan >> BlockVerified(first.source, first.request, first.first))

    assert rarest_asked(0b1, 0b10, 0b100) == rarest_asked(0b111)
