"""Transcripts of the planner: which blocks are asked of whom, and when the origin is."""

from __future__ import annotations

from dreamer.protocol.limits import (
    DISCOVERY_MAX_S,
    MIB,
    ORIGIN_AFTER_NO_PROGRESS_S,
    REQUEST_FIRST_BLOCKS,
    REQUEST_MAX_BLOCKS,
    SNUB_S,
    SOURCE_MAX_STRIKES,
)
from dreamer.protocol.swarm.bitfield import span
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
    third, *_ = of(plan.deliver(first, seconds=1), Fetch)
    assert third.first == 8
    assert of(plan.said, Fetch, A)[2:] == [third]


def test_no_more_is_under_way_than_a_source_sends_in_two_seconds(play) -> None:
    plan = play(400 * MIB)
    queue = of(plan.join(A), Fetch)
    for rate in (40.0, 2.0, 0.4):
        for _ in range(12):
            fetch = queue.pop(0)
            queue += of(plan.deliver(fetch, seconds=fetch.count / rate), Fetch)
            assert queue, "and never none"
        assert sum(f.count for f in queue) <= max(2, 2.2 * rate)


def test_requests_grow_with_the_rate_up_to_a_bound(play) -> None:
    plan = play(20_000 * MIB)
    first, second = of(plan.join(A), Fetch)
    after_slow = of(plan.deliver(first, seconds=0.4), Fetch)[-1]
    assert after_slow.count == 10, "10 MiB/s: a request is a second's worth"
    after_fast = of(plan.deliver(second, seconds=0.001), Fetch)
    assert [f.count for f in after_fast] == [10], "too short to measure: nothing is concluded"
    queue = after_fast
    while plan.core.missing and max(f.count for f in queue) < REQUEST_MAX_BLOCKS:
        fetch = queue.pop(0)
        queue += of(plan.deliver(fetch, seconds=fetch.count / 2000), Fetch)
    assert plan.core.missing, "at 2 GB/s a request is as long as one may be"
    assert all(f.count <= REQUEST_MAX_BLOCKS for f in of(plan.said, Fetch))


def test_the_rarest_blocks_are_asked_for_first(play) -> None:
    plan = play(16 * MIB, present=0)
    plan.join(A, blocks=span(0, 12))
    plan.join(B, blocks=span(0, 12))
    # Only C has 12 to 15, and what it is asked for first is among these.
    assert asked(plan.join(C))[-4:] == [12, 13, 14, 15]


def first_blocks_asked_for(plan, count):
    """Where the first so many requests begin, each brought before the next is made."""
    for done in range(count):
        plan.deliver(of(plan.said, Fetch)[done], seconds=1)
    return [fetch.first for fetch in of(plan.said, Fetch)[:count]]


def test_a_pull_alone_asks_for_one_block_after_the_other(play) -> None:
    plan = play(256 * MIB)
    plan >> DiscoveryEnded()
    plan.join(A)
    asked_for = first_blocks_asked_for(plan, 8)
    assert asked_for == sorted(asked_for)
    assert asked_for[0] == 0


def test_a_pull_that_does_not_know_yet_whether_it_is_alone_begins_anywhere(play) -> None:
    plan = play(256 * MIB)
    plan.join(A)
    asked_for = first_blocks_asked_for(plan, 8)
    assert asked_for != sorted(asked_for)


def test_a_public_swarm_is_asked_anywhere_though_nobody_of_the_room_pulls(play) -> None:
    plan = play(256 * MIB)
    plan >> DiscoveryEnded()
    plan.join(A, lane=Lane.TORRENT)
    asked_for = first_blocks_asked_for(plan, 8)
    assert asked_for != sorted(asked_for)


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
    assert asked(plan.after(DISCOVERY_MAX_S - 0.1) >> Tick(), ORIGIN) == []
    assert asked(plan.after(0.1) >> Tick(), ORIGIN) == [0]


def test_the_origin_gives_anything_once_peers_have_made_no_progress_for_a_minute(play) -> None:
    plan = play(8 * MIB)
    plan.join(ORIGIN, lane=Lane.ORIGIN)
    plan.join(A)
    assert asked(plan >> DiscoveryEnded(), ORIGIN) == []
    while plan.now < ORIGIN_AFTER_NO_PROGRESS_S - 0.1:
        plan.now = min(plan.core.next_wake(plan.now), ORIGIN_AFTER_NO_PROGRESS_S - 0.1)
        # It is alive, but no block of it ever gets whole.
        plan >> BytesArrived(A, MIB)
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
