"""Transcripts of the planner: what happens when sources misbehave."""

from __future__ import annotations

import pytest

from dreamer.protocol.limits import (
    BUSY_MEMBER_RETRY_S,
    BUSY_RETRY_S,
    MIB,
    REQUEST_TIMEOUT_S,
    SNUB_S,
    SOURCE_MAX_STRIKES,
    SOURCE_MIN_BYTES_S,
)
from dreamer.protocol.swarm.bitfield import span
from dreamer.protocol.swarm.vocabulary import (
    Blame,
    BlockRejected,
    BlockVerified,
    BytesArrived,
    Cancel,
    DiscoveryEnded,
    Drop,
    Fetch,
    Lane,
    RequestRefused,
    SourceGained,
    SourceId,
    SourceLacks,
    SourceLost,
    SourceMoved,
    Tick,
)

A, B, C = SourceId("a"), SourceId("b"), SourceId("c")
ORIGIN = SourceId("origin")


def of(commands, kind, source=None):
    found = [command for command in commands if isinstance(command, kind)]
    return found if source is None else [one for one in found if one.source == source]


def asked(commands, source=None):
    """The blocks that these commands ask for."""
    return sorted(b for f in of(commands, Fetch, source) for b in range(f.first, f.first + f.count))


def test_a_bad_block_is_blamed_and_fetched_elsewhere(play) -> None:
    plan = play(4 * MIB)
    plan.join(A)
    assert plan.join(B) == []
    said = plan >> BlockRejected(A, 1, 2)
    assert said[0] == Blame(A, 2)
    assert asked(said, B) == [0, 1, 2, 3]
    assert of(said, Fetch, A) == []


def test_a_hung_peer_is_cancelled_and_its_blocks_go_elsewhere(play) -> None:
    plan = play(20 * MIB)
    plan.join(A)
    held = asked(plan.said, A)
    plan.join(B, blocks=0)
    plan.after(REQUEST_TIMEOUT_S - 0.1)
    assert of(plan >> Tick(), Cancel) == []
    said = plan.after(0.1) >> Tick()
    assert said == [Cancel(A, 1, None), Cancel(A, 2, None)]
    assert asked(plan >> SourceGained(B, plan.everything))[:4]
    assert set(held) & set(asked(plan.said, B)) or len(held) < 20


def test_a_peer_that_hangs_three_times_is_dropped(play) -> None:
    plan = play(4 * MIB)
    plan.join(A)
    drops = []
    while plan.now < 200 and not drops:
        plan.now = plan.core.next_wake(plan.now)
        drops = of(plan >> Tick(), Drop)
    assert drops == [Drop(A)]
    strikes = len(of(plan.said, Fetch, A))
    assert strikes == SOURCE_MAX_STRIKES
    assert asked(plan.after(500) >> Tick(), A) == []


def test_a_peer_that_hangs_is_left_alone_while_another_has_its_blocks(play) -> None:
    plan = play(4 * MIB)
    plan.join(A)
    plan.after(REQUEST_TIMEOUT_S - 1)
    plan.join(B)
    rested_at = REQUEST_TIMEOUT_S + SNUB_S
    said = []
    while plan.now < rested_at - 1:
        plan.after(1) >> BytesArrived(B, MIB)
        said += plan >> Tick()
    assert asked(said, A) == []
    assert asked(plan.after(1) >> Tick(), A)


@pytest.mark.parametrize("with_origin", [False, True])
def test_the_only_peer_that_has_the_blocks_is_asked_again_soon_after_it_hung(
    play, with_origin
) -> None:
    plan = play(4 * MIB)
    if with_origin:
        plan.join(ORIGIN, lane=Lane.ORIGIN)
    plan.join(A)
    plan.join(B, blocks=0b0011)
    plan.after(REQUEST_TIMEOUT_S) >> Tick()
    assert 2 in asked(plan.after(BUSY_RETRY_S) >> Tick(), A)


def test_a_downloader_that_hung_is_left_alone_where_the_origin_gives_what_it_had(play) -> None:
    plan = play(40 * MIB)
    plan.join(ORIGIN, lane=Lane.ORIGIN)
    plan.join(A, blocks=span(0, 20))
    plan >> DiscoveryEnded()
    while plan.now < REQUEST_TIMEOUT_S:
        plan.after(1) >> BytesArrived(ORIGIN, MIB)
        plan >> Tick()
    plan.said.clear()
    # A slow uplink that many ask of is not asked again and again, until it would be dropped.
    for _ in range(3):
        plan.after(BUSY_RETRY_S) >> BytesArrived(ORIGIN, MIB)
        plan >> Tick()
    assert asked(plan.said, A) == []


@pytest.mark.parametrize("gone", [SourceLost(B), SourceMoved(B, Lane.RELAY, False)])
def test_a_peer_that_rests_is_asked_again_soon_once_it_is_the_only_one_left(play, gone) -> None:
    plan = play(40 * MIB)
    plan.join(A)
    plan.join(B)
    while plan.now < REQUEST_TIMEOUT_S:
        plan.after(1) >> BytesArrived(B, MIB)
        plan >> Tick()
    plan.said.clear()
    plan >> gone
    assert asked(plan.said) == [], "it has only just hung"
    assert asked(plan.after(BUSY_RETRY_S) >> Tick(), A)


def test_a_peer_that_moves_to_another_lane_rests_no_longer(play) -> None:
    plan = play(4 * MIB)
    plan.join(A)
    plan.join(B)
    for _ in range(2):
        plan.after(REQUEST_TIMEOUT_S) >> Tick()
    plan >> SourceLost(B)
    plan.said.clear()
    assert asked(plan >> SourceMoved(A, Lane.RELAY, True), A) == [0, 1, 2, 3]


def test_a_file_that_the_origin_lacks_leaves_it_the_others(play) -> None:
    plan = play(2 * MIB, 2 * MIB)
    plan.join(ORIGIN, lane=Lane.ORIGIN)
    assert asked(plan >> DiscoveryEnded(), ORIGIN) == [0, 1, 2, 3]
    request = of(plan.said, Fetch)[0].request
    assert plan >> SourceLacks(ORIGIN, 0b1100) == []
    plan >> BlockVerified(ORIGIN, request, 0)
    plan >> BlockVerified(ORIGIN, request, 1)
    assert plan.core.present == 0b0011
    assert not plan.core.is_open(ORIGIN, request)
    assert asked(plan.join(A), A) == [2, 3]
    assert plan >> SourceLacks(B, 0b0001) == [], "nobody of that name is known"


def test_a_verified_block_clears_a_peers_strikes(play) -> None:
    plan = play(40 * MIB)
    plan.join(A)
    for _ in range(2 * SOURCE_MAX_STRIKES):
        plan.after(REQUEST_TIMEOUT_S) >> Tick()
        plan.after(SNUB_S) >> Tick()
        fetch = of(plan.said, Fetch, A)[-1]
        plan >> BlockVerified(A, fetch.request, fetch.first)
    assert of(plan.said, Drop) == []


def test_a_trickle_of_bytes_counts_as_hung(play) -> None:
    plan = play(4 * MIB)
    plan.join(A)
    said = []
    while plan.now < REQUEST_TIMEOUT_S:
        plan.after(0.25) >> BytesArrived(A, SOURCE_MIN_BYTES_S // 8)
        said += plan >> Tick()
    assert of(said, Cancel) == [Cancel(A, 1, None)]


def test_a_slow_but_steady_peer_is_not_hung(play) -> None:
    plan = play(4 * MIB)
    plan.join(A)
    while plan.now < 5 * REQUEST_TIMEOUT_S:
        plan.after(0.25) >> BytesArrived(A, SOURCE_MIN_BYTES_S)
        assert plan >> Tick() == []


def test_a_busy_peer_rests_and_is_asked_again(play) -> None:
    plan = play(4 * MIB)
    plan.join(A)
    assert plan >> RequestRefused(A, 1, True) == []
    assert plan.after(BUSY_MEMBER_RETRY_S - 0.1) >> Tick() == []
    assert plan.after(0.1) >> Tick() == [Fetch(A, 2, 0, 4)]


def test_a_busy_peer_is_asked_again_as_soon_as_it_says_that_it_is_not(play) -> None:
    plan = play(4 * MIB)
    plan.join(A)
    plan >> RequestRefused(A, 1, True)
    assert plan >> RequestRefused(A, 1, False) == [Fetch(A, 2, 0, 4)]


def test_word_that_it_is_not_busy_wakes_nobody_that_hung(play) -> None:
    plan = play(4 * MIB)
    plan.join(A)
    plan.after(2 * REQUEST_TIMEOUT_S) >> Tick()
    assert plan >> RequestRefused(A, 1, False) == []


def test_a_peer_that_refuses_blocks_is_believed_not_to_have_them(play) -> None:
    plan = play(6 * MIB)
    plan.join(A)
    assert plan >> RequestRefused(A, 1, False) == []
    plan.deliver(Fetch(A, 2, 4, 2))
    assert asked(plan.after(300) >> DiscoveryEnded(), A) == []
    assert plan.core.missing == 0b1111
    assert asked(plan >> SourceGained(A, 0b0001), A) == [0], "until it says that it has"


def test_what_a_lost_source_owed_is_asked_of_others(play) -> None:
    plan = play(8 * MIB)
    plan.join(A)
    plan.join(B)
    assert asked(plan.said, B) == [], "A has only just been asked"
    assert asked(plan >> SourceLost(A), B) == list(range(8))


def test_a_source_that_says_anew_what_it_holds_keeps_its_requests_and_rate(play) -> None:
    plan = play(40 * MIB)
    first, second = of(plan.join(A, blocks=span(0, 30)), Fetch)
    third, *_ = of(plan.deliver(first, seconds=0.4), Fetch)
    assert plan.join(A) == [], "nothing is asked for twice"
    assert third.count == 10
    after = of(plan.deliver(second, seconds=0.4), Fetch)
    assert after[0].count >= 10, "its rate is still known"
    plan.deliver(third)
    assert plan.core.bytes_by_source == {A: MIB * plan.core.present.bit_count()}


def test_saying_have_again_and_again_does_not_hide_that_a_peer_hangs(play) -> None:
    plan = play(4 * MIB)
    plan.join(A)
    while plan.now < 300 and not of(plan.said, Drop):
        plan.join(A)
        plan.after(1) >> Tick()
    assert of(plan.said, Drop) == [Drop(A)]


def test_a_source_that_says_anew_that_it_holds_nothing_is_not_counted_as_a_holder(play) -> None:
    plan = play(2 * MIB)
    plan.join(ORIGIN, lane=Lane.ORIGIN)
    plan.join(A)
    plan >> DiscoveryEnded()
    plan >> RequestRefused(A, 1, True)
    assert asked(plan.join(A, blocks=0), ORIGIN) == [0, 1]


def test_a_peer_that_comes_back_by_another_lane_is_asked_anew(play) -> None:
    plan = play(2 * MIB)
    plan.join(A)
    assert asked(plan.join(A, lane=Lane.RELAY), A) == [0, 1]
    plan.deliver(of(plan.said, Fetch)[-1])
    assert plan.core.bytes_by_lane[Lane.RELAY] == 2 * MIB
