"""Transcripts: which blocks are asked of whom, and what happens when sources misbehave."""

from __future__ import annotations

import pytest

from dreamer.protocol.errors import LocalProtocolError
from dreamer.protocol.limits import (
    BUSY_RETRY_S,
    DISCOVERY_MAX_S,
    MIB,
    ORIGIN_AFTER_NO_PROGRESS_S,
    PULL_NO_SOURCE_TIMEOUT_S,
    PULL_STALL_TIMEOUT_S,
    REQUEST_FIRST_BLOCKS,
    REQUEST_MAX_BLOCKS,
    REQUEST_TIMEOUT_S,
    SNUB_S,
    SOURCE_MAX_STRIKES,
    SOURCE_MIN_BYTES_S,
)
from dreamer.protocol.swarm.bitfield import members, span
from dreamer.protocol.swarm.vocabulary import (
    Blame,
    BlockRejected,
    BlocksFound,
    BlockVerified,
    BytesArrived,
    Cancel,
    Complete,
    DiscoveryEnded,
    Drop,
    Fetch,
    FileFinished,
    FinishFile,
    GiveUp,
    Lane,
    RequestRefused,
    Share,
    SourceGained,
    SourceId,
    SourceJoined,
    SourceLost,
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


# The way it should go


def test_a_pull_from_one_source_asks_shares_finishes_and_completes(play) -> None:
    plan = play(3 * MIB)
    assert plan.join(A) == [Fetch(A, 1, 0, 3)]
    assert plan >> BlockVerified(A, 1, 0) == [Share(0b001)]
    assert plan >> BlockVerified(A, 1, 2) == [Share(0b100)]
    assert plan >> BlockVerified(A, 1, 1) == [Share(0b010), FinishFile(0)]
    assert plan >> FileFinished(0) == [Complete()]
    assert plan.core.bytes_by_lane[Lane.WEBRTC] == 3 * MIB
    assert plan.core.bytes_by_source == {A: 3 * MIB}


def test_complete_comes_only_after_every_file_is_finished(play) -> None:
    plan = play(MIB, MIB)
    plan.deliver(*of(plan.join(A), Fetch))
    assert plan >> FileFinished(1) == []
    assert plan >> FileFinished(1) == []
    assert plan >> FileFinished(0) == [Complete()]


def test_events_after_the_end_are_ignored(play) -> None:
    plan = play(MIB)
    plan.deliver(*of(plan.join(A), Fetch))
    assert plan >> FileFinished(0) == [Complete()]
    late = [
        SourceJoined(B, Lane.WEBRTC, 1),
        BlockVerified(A, 1, 0),
        BlockRejected(A, 1, 0),
        RequestRefused(A, 1, True),
        SourceLost(A),
        FileFinished(0),
        DiscoveryEnded(),
        Tick(),
    ]
    assert [plan.after(100) >> event for event in late] == [[]] * len(late)


def test_files_without_blocks_and_files_already_here_are_finished_at_the_start(play) -> None:
    plan = play(0, 2 * MIB, 0, MIB, present=0b011)
    assert plan.said == [FinishFile(0), FinishFile(1), FinishFile(2)]
    assert plan.core.missing_bytes == MIB
    assert plan.join(A) == [Fetch(A, 1, 2, 1)]
    assert of(plan.deliver(Fetch(A, 1, 2, 1)), FinishFile) == [FinishFile(3)]


def test_a_model_of_nothing_but_empty_files_completes_without_sources(play) -> None:
    plan = play(0, 0)
    assert plan.finish_files() == [Complete()]


def test_two_requests_are_in_flight_and_the_next_follows_the_first_to_end(play) -> None:
    plan = play(12 * MIB)
    first, second = of(plan.join(A), Fetch)
    assert [f.count for f in (first, second)] == [REQUEST_FIRST_BLOCKS] * 2
    assert of(plan.deliver(first, seconds=4), Fetch) == [Fetch(A, 3, 8, 1)]


def test_requests_grow_with_the_rate_up_to_a_bound(play) -> None:
    plan = play(20_000 * MIB)
    first, second = of(plan.join(A), Fetch)
    after_slow = of(plan.deliver(first, seconds=0.4), Fetch)[-1]
    assert after_slow.count == 10, "10 MiB/s: a request is a second's worth"
    after_fast = of(plan.deliver(second, seconds=0.001), Fetch)
    assert [f.count for f in after_fast] == [10], "too short to measure: nothing is concluded"
    for _ in range(200):
        after_fast = of(plan.deliver(of(plan.said, Fetch)[-1], seconds=0.06), Fetch)
    assert after_fast[-1].count == REQUEST_MAX_BLOCKS


def test_the_rarest_blocks_are_asked_for_first(play) -> None:
    plan = play(16 * MIB, present=0)
    plan.join(A, blocks=span(0, 12))
    plan.join(B, blocks=span(0, 12))
    # Only C has 12 to 15, and what it is asked for first is among these.
    assert asked(plan.join(C))[-4:] == [12, 13, 14, 15]


def test_no_block_is_asked_of_two_while_others_are_asked_of_none(play) -> None:
    plan = play(64 * MIB)
    for source in (A, B, C):
        plan.join(source)
    blocks = asked(plan.said)
    assert len(blocks) == len(set(blocks)) == 6 * REQUEST_FIRST_BLOCKS


def test_blocks_that_a_peer_gains_later_are_asked_for(play) -> None:
    plan = play(8 * MIB)
    assert plan.join(A, blocks=0) == []
    assert plan >> SourceGained(A, span(3, 2)) == [Fetch(A, 1, 3, 2)]
    assert plan >> SourceGained(B, span(0, 1)) == [], "nobody knows B"


def test_blocks_found_on_disk_are_shared_and_no_longer_awaited(play) -> None:
    plan = play(2 * MIB, 2 * MIB)
    plan.join(A)
    assert plan >> BlocksFound(0b1100) == [
        Cancel(A, 1, 2),
        Cancel(A, 1, 3),
        Share(0b1100),
        FinishFile(1),
    ]
    assert plan >> BlocksFound(0b1100) == [], "said twice, found once"
    assert plan.core.missing_bytes == 2 * MIB
    assert sum(plan.core.bytes_by_lane.values()) == 0


# The origin


def test_the_origin_gives_what_no_peer_has_but_only_after_discovery(play) -> None:
    plan = play(8 * MIB)
    assert plan.join(ORIGIN, lane=Lane.ORIGIN) == []
    plan.join(A, blocks=span(0, 6))
    assert asked(plan >> DiscoveryEnded(), ORIGIN) == [6, 7]


def test_discovery_ends_by_itself_after_its_time(play) -> None:
    plan = play(MIB)
    plan.join(ORIGIN, lane=Lane.ORIGIN)
    assert plan.core.next_wake(plan.now) == DISCOVERY_MAX_S
    assert asked(plan.after(DISCOVERY_MAX_S) >> Tick(), ORIGIN) == [0]


def test_the_origin_gives_anything_once_peers_have_made_no_progress_for_a_minute(play) -> None:
    plan = play(8 * MIB)
    plan.join(ORIGIN, lane=Lane.ORIGIN)
    plan.join(A)
    assert asked(plan >> DiscoveryEnded(), ORIGIN) == []
    while plan.now < ORIGIN_AFTER_NO_PROGRESS_S - 0.1:
        plan.now = min(plan.core.next_wake(plan.now), ORIGIN_AFTER_NO_PROGRESS_S - 0.1)
        assert asked(plan >> Tick(), ORIGIN) == []
    plan.now = ORIGIN_AFTER_NO_PROGRESS_S
    assert asked(plan >> Tick(), ORIGIN)


def test_the_origin_is_silent_while_peers_make_any_progress(play) -> None:
    plan = play(400 * MIB)
    plan.join(ORIGIN, lane=Lane.ORIGIN)
    plan.join(A)
    plan >> DiscoveryEnded()
    fetches = of(plan.said, Fetch)
    while plan.now < 2 * ORIGIN_AFTER_NO_PROGRESS_S:
        fetches += of(plan.deliver(fetches.pop(0), seconds=5), Fetch)
        plan >> Tick()
    assert of(plan.said, Fetch, ORIGIN) == []


def test_what_the_origin_brings_does_not_count_as_progress_of_peers(play) -> None:
    plan = play(100 * MIB)
    plan.join(ORIGIN, lane=Lane.ORIGIN)
    plan.join(A, lane=Lane.DIRECT)
    plan >> DiscoveryEnded()
    fetch, *_ = of(plan.after(ORIGIN_AFTER_NO_PROGRESS_S) >> Tick(), Fetch, ORIGIN)
    assert of(plan.deliver(fetch, seconds=1), Fetch, ORIGIN)
    assert plan.core.bytes_by_lane[Lane.ORIGIN] == fetch.count * MIB


def test_one_damaged_block_at_the_origin_costs_only_that_block(play) -> None:
    plan = play(4 * MIB)
    plan.join(ORIGIN, lane=Lane.ORIGIN)
    (fetch,) = of(plan >> DiscoveryEnded(), Fetch)
    said = plan >> BlockRejected(ORIGIN, fetch.request, 1)
    assert said == [Blame(ORIGIN, 1)]
    assert plan >> BlockVerified(ORIGIN, fetch.request, 2) == [Share(0b100)]
    assert asked(plan.join(A)) == [1], "a peer is asked for it instead"


def test_an_origin_full_of_damage_is_left_and_its_requests_cancelled(play) -> None:
    plan = play(100 * MIB)
    plan.join(ORIGIN, lane=Lane.ORIGIN)
    first, second = of(plan >> DiscoveryEnded(), Fetch)
    blocks = range(first.first, first.first + first.count)
    for block in blocks[:SOURCE_MAX_STRIKES]:
        assert Cancel(ORIGIN, second.request, None) not in (
            plan >> BlockRejected(ORIGIN, first.request, block)
        )
    said = plan >> BlockRejected(ORIGIN, first.request, blocks[SOURCE_MAX_STRIKES])
    assert Cancel(ORIGIN, second.request, None) in said
    assert asked(plan.after(1000) >> Tick()) == []


def test_an_origin_that_refuses_rests_longer_each_time_but_is_never_dropped(play) -> None:
    plan = play(MIB)
    plan.join(ORIGIN, lane=Lane.ORIGIN)
    (fetch,) = of(plan >> DiscoveryEnded(), Fetch)
    for strike in (1, 2):
        assert plan >> RequestRefused(ORIGIN, fetch.request, False) == []
        assert asked(plan.after(SNUB_S * strike - 0.1) >> Tick()) == []
        (fetch,) = of(plan.after(0.1) >> Tick(), Fetch)
    assert of(plan.said, Drop) == []


def test_bytes_that_the_origin_still_brings_after_it_was_lost_are_counted(play) -> None:
    plan = play(8 * MIB)
    plan.join(ORIGIN, lane=Lane.ORIGIN)
    first, *_ = of(plan >> DiscoveryEnded(), Fetch)
    plan >> SourceLost(ORIGIN)
    plan >> BlockVerified(ORIGIN, first.request, first.first)
    assert plan.core.bytes_by_lane[Lane.ORIGIN] == MIB


# Sources that misbehave


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


def test_a_peer_that_hangs_is_left_alone_for_a_while(play) -> None:
    plan = play(4 * MIB)
    plan.join(A)
    plan.after(REQUEST_TIMEOUT_S) >> Tick()
    assert asked(plan.after(SNUB_S - 0.1) >> Tick()) == []
    assert asked(plan.after(0.1) >> Tick(), A) == [0, 1, 2, 3]


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
    assert plan.core.next_wake(plan.now) == BUSY_RETRY_S
    assert plan.after(BUSY_RETRY_S) >> Tick() == [Fetch(A, 2, 0, 4)]


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


# The end of a pull


def test_an_idle_source_takes_over_the_tail_of_a_slower_one_and_the_loser_is_cancelled(
    play,
) -> None:
    plan = play(8 * MIB)
    slow, other = of(plan.join(A), Fetch)
    plan.join(B)
    plan.after(1.0) >> BlockVerified(A, slow.request, slow.first)
    plan.after(1.0) >> BytesArrived(A, MIB)
    (taken,) = of(plan.said, Fetch, B)
    assert asked(plan.said, B)[-1] == 7, "the end, which its owner would come to last"
    said = plan >> BlockVerified(B, taken.request, 7)
    assert Cancel(A, other.request, 7) in said
    assert Share(1 << 7) in said


def test_a_duplicate_of_a_block_changes_nothing(play) -> None:
    plan = play(8 * MIB)
    fetch, *_ = of(plan.join(A), Fetch)
    plan >> BlockVerified(A, fetch.request, 0)
    before = plan.core.bytes_by_lane.copy()
    assert plan >> BlockVerified(A, fetch.request, 0) == []
    assert plan >> BlockVerified(B, 99, 0) == []
    assert plan.core.bytes_by_lane == before
    assert plan.core.bytes_by_source == {A: MIB}


def test_a_source_that_goes_quiet_is_overtaken_long_before_it_counts_as_hung(play) -> None:
    plan = play(4 * MIB)
    plan.join(A)
    plan.join(B)
    assert asked(plan.said, B) == [], "A has only just been asked"
    plan.now = plan.core.next_wake(plan.now)
    assert plan.now <= 2.5
    assert asked(plan >> Tick(), B) == [0, 1, 2, 3]


def test_a_block_is_under_way_twice_at_most(play) -> None:
    plan = play(MIB)
    for source in (A, B, C):
        plan.join(source)
    for _ in range(3):
        plan.after(3.5) >> Tick()
        plan >> BytesArrived(A, 1)
    assert len(of(plan.said, Fetch)) == 2


def test_a_quick_peer_that_lets_its_last_block_trickle_is_overtaken(play) -> None:
    plan = play(9 * MIB)
    queue = of(plan.join(A), Fetch)
    queue += of(plan.deliver(queue.pop(0), seconds=0.1), Fetch)
    plan.deliver(queue.pop(0), seconds=0.1)
    assert plan.core.missing == 1 << 8
    plan.join(B)
    while plan.now < 3 and not of(plan.said, Fetch, B):
        plan.after(0.25) >> BytesArrived(A, SOURCE_MIN_BYTES_S)
        plan >> Tick()
    assert asked(plan.said, B) == [8]


def test_nothing_is_taken_over_when_its_owner_will_be_sooner(play) -> None:
    plan = play(12 * MIB)
    first, second = of(plan.join(A), Fetch)
    third, *_ = of(plan.deliver(first, seconds=0.1), Fetch)
    plan.deliver(second, seconds=0.1)
    plan >> BlockVerified(A, third.request, third.first)
    plan.join(B)
    assert of(plan.said, Fetch, B) == [], "A is done in a fraction of a second"


# Giving up


def test_a_pull_that_nobody_can_help_gives_up_after_discovery(play) -> None:
    plan = play(MIB)
    plan >> DiscoveryEnded()
    assert plan.after(PULL_NO_SOURCE_TIMEOUT_S - 0.1) >> Tick() == []
    (given_up,) = plan.after(0.1) >> Tick()
    assert isinstance(given_up, GiveUp)
    assert "nobody" in given_up.reason
    assert plan.join(A) == [], "it is over"


def test_the_wait_for_somebody_begins_when_the_last_helper_goes(play) -> None:
    plan = play(8 * MIB)
    plan.join(A)
    plan >> DiscoveryEnded()
    while plan.now < 69:
        plan.after(1) >> BytesArrived(A, MIB)
    plan >> BlockVerified(A, 1, 0)
    plan >> SourceLost(A)
    assert plan.after(PULL_NO_SOURCE_TIMEOUT_S - 0.1) >> Tick() == []
    assert of(plan.after(0.1) >> Tick(), GiveUp)


def test_a_source_that_has_the_rest_but_never_sends_ends_the_pull_in_the_end(play) -> None:
    plan = play(4 * MIB)
    plan.join(A)
    while plan.now < PULL_STALL_TIMEOUT_S:
        plan.join(A, lane=Lane.WEBRTC)
        plan.after(1) >> BytesArrived(A, MIB)
        said = plan >> Tick()
    (given_up,) = of(said, GiveUp)
    assert "180 s" in given_up.reason


def test_checking_a_huge_file_for_minutes_is_no_reason_to_give_up(play) -> None:
    plan = play(MIB)
    plan.deliver(*of(plan.join(A), Fetch))
    plan >> DiscoveryEnded()
    plan >> SourceLost(A)
    assert plan.after(10 * PULL_STALL_TIMEOUT_S) >> Tick() == []
    assert plan.finish_files() == [Complete()]


def test_the_next_wake_is_always_ahead(play) -> None:
    plan = play(4 * MIB)
    plan.join(A)
    for _ in range(200):
        wake = plan.core.next_wake(plan.now)
        assert wake > plan.now
        plan.now = wake
        plan >> Tick()


def test_an_event_from_nowhere_is_a_bug_of_ours(play) -> None:
    with pytest.raises(LocalProtocolError):
        play(MIB) >> "hello"


def test_planning_a_huge_model_for_many_sources_asks_for_every_block_once(play) -> None:
    blocks = 140_000
    plan = play(*[blocks // 1000 * MIB] * 1000)
    sources = [SourceId(f"s{n}") for n in range(50)]
    for source in sources:
        plan.join(source)
    queue = of(plan.said, Fetch)
    events = 0
    while queue and events < 3000:
        fetch = queue.pop(0)
        queue += of(plan.deliver(fetch, seconds=0.05), Fetch)
        events += fetch.count
    answered = asked(plan.said)
    assert len(answered) == len(set(answered)), "nothing twice while there is fresh work"
    assert len(plan.said) < 3 * events, "commands are as many as events, not as blocks × sources"
    assert plan.core.missing.bit_count() == blocks - events
    assert plan.core.missing_bytes == (blocks - events) * MIB
    assert len(list(members(plan.core.missing))) == blocks - events
