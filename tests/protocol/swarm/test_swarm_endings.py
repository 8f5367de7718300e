"""Transcripts of the planner: the last blocks, and giving up."""

from __future__ import annotations

import pytest

from dreamer.protocol.errors import LocalProtocolError
from dreamer.protocol.limits import (
    MIB,
    PULL_NO_SOURCE_TIMEOUT_S,
    PULL_STALL_TIMEOUT_S,
    SOURCE_MIN_BYTES_S,
)
from dreamer.protocol.swarm.bitfield import full, members, span
from dreamer.protocol.swarm.vocabulary import (
    BlockVerified,
    BytesArrived,
    Cancel,
    Complete,
    DiscoveryEnded,
    Fetch,
    GiveUp,
    Lane,
    RequestRefused,
    Share,
    SourceGained,
    SourceId,
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
    assert asked(plan.after(2.5) >> Tick(), B) == [0, 1, 2, 3]


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


def test_of_sources_alike_none_is_asked_for_what_another_one_sends(play) -> None:
    """Where this node's own line is full, a second copy only takes from what the first one gets."""
    plan = play(12 * MIB)
    first, second = of(plan.join(A, blocks=span(0, 8)), Fetch)
    plan.deliver(first, seconds=4.0)
    (third, *_) = of(plan.join(B, blocks=span(8, 4)), Fetch)
    plan.deliver(third, seconds=4.0)
    for block in range(4, 7):
        plan.after(1.0) >> BlockVerified(A, second.request, block)
    plan >> SourceGained(B, full(8))
    plan.after(0.1) >> Tick()
    assert asked(plan.said, B) == [8, 9, 10, 11]


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


def test_a_block_may_take_longer_than_a_pull_may_stand_still(play) -> None:
    plan = play(MIB)
    plan.join(A)
    fetch = asked(plan.said, A)
    slow_bytes_s = 0.9 * MIB / PULL_STALL_TIMEOUT_S / 1.5
    while plan.now < 1.5 * PULL_STALL_TIMEOUT_S:
        plan.after(2) >> BytesArrived(A, int(2 * slow_bytes_s))
        assert not of(plan >> Tick(), GiveUp)
    assert fetch == [0]
    while plan.now < 3 * PULL_STALL_TIMEOUT_S and not of(plan.said, GiveUp):
        plan.after(2) >> Tick()
    assert of(plan.said, GiveUp), "nothing more came"


def test_a_pull_waits_for_a_member_that_says_it_is_busy(play) -> None:
    plan = play(MIB)
    plan.join(A)
    plan >> DiscoveryEnded()
    while plan.now < 2 * PULL_STALL_TIMEOUT_S:
        for fetch in of(plan.said, Fetch, A):
            plan >> RequestRefused(A, fetch.request, busy=True)
        assert not of(plan.after(1.5) >> Tick(), GiveUp)
    while plan.now < 4 * PULL_STALL_TIMEOUT_S and not of(plan.said, GiveUp):
        plan.after(1.5) >> Tick()
    assert of(plan.said, GiveUp), "it says nothing any more"


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
