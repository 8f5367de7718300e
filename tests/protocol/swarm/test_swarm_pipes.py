"""Transcripts of the planner: pipes kept full and short, work moved, limits kept."""

from __future__ import annotations

from dreamer.protocol.limits import (
    BLOCK_BYTES,
    HAVE_FLUSH_MAX_S,
    HAVE_FLUSH_MIN_S,
    MIB,
    RELIEVE_OVER_S,
    REQUEST_ORIGIN_MAX_BLOCKS,
    REQUESTS_IN_FLIGHT_MAX,
    SWEEP_INTERVAL_S,
)
from dreamer.protocol.shaping.bucket import ByteBucket
from dreamer.protocol.swarm.bitfield import full, span
from dreamer.protocol.swarm.tidings import flush_delay_s
from dreamer.protocol.swarm.vocabulary import (
    BlockVerified,
    Cancel,
    DiscoveryEnded,
    Fetch,
    Lane,
    RequestRefused,
    SourceGained,
    SourceId,
    SourceJoined,
    SourceLost,
    SourceMoved,
    Tick,
)

A, B, OWN = SourceId("a"), SourceId("b"), SourceId("own")
ORIGIN = SourceId("origin")


def of(commands, kind, source=None):
    found = [command for command in commands if isinstance(command, kind)]
    return found if source is None else [one for one in found if one.source == source]


def asked(commands, source=None):
    """The blocks that these commands ask for."""
    return sorted(b for f in of(commands, Fetch, source) for b in range(f.first, f.first + f.count))


def open_blocks(plan, source) -> int:
    return plan.core._sources[source].owed


# Pipes


def test_single_blocks_are_asked_for_in_many_requests_so_that_a_fast_pipe_stays_full(play) -> None:
    plan = play(200 * MIB)
    # It holds every other block, so no run is longer than one.
    plan >> SourceJoined(A, Lane.DIRECT, sum(1 << block for block in range(0, 200, 2)))
    queue = of(plan.said, Fetch)
    for _ in range(30):
        queue += of(plan.deliver(queue.pop(0), seconds=0.02), Fetch)
    assert 4 < len(queue) <= REQUESTS_IN_FLIGHT_MAX


def test_the_origin_is_asked_for_short_runs_several_at_a_time(play) -> None:
    plan = play(2000 * MIB)
    plan >> SourceJoined(ORIGIN, Lane.ORIGIN, full(2000))
    queue = of(plan >> DiscoveryEnded(), Fetch)
    for _ in range(30):
        fetch = queue.pop(0)
        queue += of(plan.deliver(fetch, seconds=fetch.count / 200), Fetch)
    assert max(one.count for one in queue) <= REQUEST_ORIGIN_MAX_BLOCKS
    assert len(queue) > 4


def test_a_source_that_slows_is_relieved_of_its_tail_before_the_end(play) -> None:
    plan = play(400 * MIB)
    queue = of(plan >> SourceJoined(A, Lane.WEBRTC, full(400)), Fetch)
    while open_blocks(plan, A) < 40:
        fetch = queue.pop(0)
        queue += of(plan.deliver(fetch, seconds=fetch.count / 30), Fetch)
    owed = asked(queue)
    # B has only what A was asked for. A turns slow, but is not silent.
    plan >> SourceJoined(B, Lane.WEBRTC, sum(1 << block for block in owed))
    for block in range(queue[0].first, queue[0].first + 8):
        plan.after(1.5) >> BlockVerified(A, queue[0].request, block)
    moved = of(plan.said, Cancel, A)
    taken = asked(plan.said, B)
    assert plan.core._asking.unasked, "it is not the end yet"
    assert taken
    assert {one.block for one in moved} == set(taken), "moved, not copied"
    assert set(taken) <= set(owed[-len(owed) // 2 :]) | set(asked([queue[-1]]))


def test_a_source_at_its_usual_pace_is_not_relieved(play) -> None:
    plan = play(400 * MIB)
    queue = of(plan >> SourceJoined(A, Lane.WEBRTC, full(400)), Fetch)
    for _ in range(6):
        fetch = queue.pop(0)
        queue += of(plan.deliver(fetch, seconds=fetch.count / 10), Fetch)
    assert open_blocks(plan, A) / 10 < RELIEVE_OVER_S
    plan >> SourceJoined(B, Lane.WEBRTC, sum(1 << block for block in asked(queue)))
    plan.after(0.2) >> Tick()
    assert of(plan.said, Cancel) == []


def test_a_source_that_can_not_be_used_counts_for_nothing_until_it_can(play) -> None:
    plan = play(4 * MIB)
    plan >> SourceJoined(ORIGIN, Lane.ORIGIN, full(4))
    plan >> SourceJoined(A, Lane.RELAY, full(4))
    plan >> DiscoveryEnded()
    assert asked(plan.said, ORIGIN) == []
    said = plan >> SourceMoved(A, Lane.RELAY, False)
    assert asked(said, A) == []
    assert asked(said, ORIGIN) == [0, 1, 2, 3], "the origin does not wait for it"
    plan >> SourceLost(ORIGIN)
    plan >> SourceGained(A, full(4))
    assert asked(plan >> SourceMoved(A, Lane.DIRECT, True), A) == [0, 1, 2, 3]


# Others who pull the same


def test_what_is_another_nodes_share_is_called_off_when_it_is_heard_of(play) -> None:
    plan = play(64 * MIB, own=OWN)
    queue = of(plan >> SourceJoined(A, Lane.DIRECT, full(64)), Fetch)
    while sum(one.count for one in queue) < 32:
        fetch = queue.pop(0)
        queue += of(plan.deliver(fetch, seconds=fetch.count / 20), Fetch)
    before = open_blocks(plan, A)
    said = plan >> SourceJoined(B, Lane.DIRECT, 0, fetching=True)
    off = of(said, Cancel, A)
    assert 0 < len(off) < before, "about half of it is theirs"
    assert not {one.block for one in off} & set(asked(said))


def test_news_is_told_at_once_when_little_and_together_when_much() -> None:
    assert flush_delay_s(0) == flush_delay_s(1) == HAVE_FLUSH_MIN_S
    assert HAVE_FLUSH_MIN_S < flush_delay_s(40) < HAVE_FLUSH_MAX_S
    assert flush_delay_s(10_000) == HAVE_FLUSH_MAX_S


# Limits of what this node takes in


class Limited:
    """A limit over everything; what a lane within the site takes is not counted."""

    def __init__(self, bytes_s: float) -> None:
        self.bucket = ByteBucket(bytes_s)
        self.taken = 0.0

    def grant(self, lane: Lane, lan: bool, now: float) -> float:
        return float("inf") if lan else self.bucket.level(now)

    def take(self, lane: Lane, lan: bool, size_bytes: int, now: float) -> None:
        if not lan:
            self.taken += size_bytes
            self.bucket.take(size_bytes, now)


def drain(plan, seconds: float) -> int:
    """Deliver at once whatever is asked for, as time passes; return the blocks that came."""
    queue, came, until = of(plan.said, Fetch), 0, plan.now + seconds
    while plan.now < until:
        while queue:
            came += queue[0].count
            queue += of(plan.deliver(queue.pop(0), seconds=0.0001), Fetch)
        plan.now = min(plan.core.next_wake(plan.now), plan.now + SWEEP_INTERVAL_S)
        queue += of(plan >> Tick(), Fetch)
    return came


def test_no_more_is_asked_for_than_the_limit_grants(play) -> None:
    pace = Limited(5.0 * BLOCK_BYTES)
    plan = play(1000 * MIB, pace=pace)
    plan >> SourceJoined(A, Lane.DIRECT, full(1000))
    plan >> SourceJoined(B, Lane.WEBRTC, full(1000))
    came = drain(plan, 20.0)
    assert 90 <= came <= 112
    assert came <= pace.taken / BLOCK_BYTES <= came + 2, "what was asked for is what came"


def test_a_source_within_the_site_is_exempt(play) -> None:
    plan = play(200 * MIB, pace=Limited(1.0 * BLOCK_BYTES))
    plan >> SourceJoined(A, Lane.DIRECT, full(200), lan=True)
    assert drain(plan, 5.0) == 200


def test_what_will_not_come_after_all_is_granted_again(play) -> None:
    pace = Limited(1.0 * BLOCK_BYTES)
    plan = play(8 * MIB, pace=pace)
    (fetch, *_) = of(plan >> SourceJoined(A, Lane.WEBRTC, span(0, 4)), Fetch)
    plan >> RequestRefused(A, fetch.request, True)
    assert pace.taken == sum(one.count for one in of(plan.said, Fetch)[1:]) * BLOCK_BYTES
    plan >> SourceLost(A)
    assert pace.taken == 0
