"""Shares of a crowd: everybody agrees, nothing is fetched by two, nobody is waited for in vain."""

from __future__ import annotations

import pytest

from dreamer.protocol.limits import (
    CROWD_HELP_MIN_BLOCKS,
    CROWD_HELP_OVER_S,
    CROWD_PATIENCE_S,
    MIB,
    RENDEZVOUS_RUNS,
)
from dreamer.protocol.swarm.bitfield import full, members, span
from dreamer.protocol.swarm.crowd import Crowd
from dreamer.protocol.swarm.rendezvous import Shares, run_blocks
from dreamer.protocol.swarm.vocabulary import (
    BlockVerified,
    CrowdSeen,
    DiscoveryEnded,
    Fetch,
    Lane,
    SourceGained,
    SourceId,
    SourceJoined,
    SourceLost,
    Tick,
)

BLOCKS = 400
ALL = full(BLOCKS)
NODES = [SourceId(f"node{number}") for number in range(8)]
ME, OTHER, THIRD = NODES[:3]
ORIGIN = SourceId("origin")


def shares(*nodes: SourceId, blocks: int = BLOCKS) -> Shares:
    made = Shares(blocks)
    for node in nodes:
        made.add(node)
    return made


def asked(commands, source=None) -> int:
    """The set of blocks that these commands ask for."""
    found = 0
    for one in commands:
        if isinstance(one, Fetch) and source in (None, one.source):
            found |= span(one.first, one.count)
    return found


# Rendezvous


def test_every_block_is_one_nodes_share_and_shares_are_about_equal() -> None:
    made = shares(*NODES)
    parts = [made.of(node) for node in NODES]
    assert sum(parts) == ALL, "none twice, none left out"
    assert all(0.5 < part.bit_count() / (BLOCKS / len(NODES)) < 1.5 for part in parts)


def test_nodes_that_know_of_the_same_others_in_any_order_agree() -> None:
    one, other = shares(*NODES), shares(*reversed(NODES))
    assert [one.of(node) for node in NODES] == [other.of(node) for node in NODES]


def test_a_node_that_goes_moves_no_share_but_its_own() -> None:
    before, after = shares(*NODES), shares(*NODES[:-1])
    for node in NODES[:-1]:
        assert not before.of(node) & ~after.of(node)
    made = shares(*NODES)
    made.discard(NODES[-1])
    made.discard(NODES[-1])
    assert [made.of(node) for node in NODES] == [after.of(node) for node in NODES]


@pytest.mark.parametrize("blocks", [1, 7, RENDEZVOUS_RUNS, 14_000, 1_000_000])
def test_runs_cover_models_of_any_size(blocks: int) -> None:
    made = shares(*NODES, blocks=blocks)
    assert sum(made.of(node) for node in NODES) == full(blocks)
    assert blocks / run_blocks(blocks) < 2 * RENDEZVOUS_RUNS


def test_a_slow_nodes_blocks_are_divided_among_the_others_without_overlap() -> None:
    made = shares(*NODES)
    left = made.of(NODES[0])
    parts = [made.best_for(node, NODES[1:], left) for node in NODES[1:]]
    assert sum(parts) == left


# The crowd


def crowd(*others: SourceId, now: float = 0.0) -> Crowd:
    made = Crowd(BLOCKS, ME)
    for other in others:
        made.holds(other, 0, True, now)
    return made


def test_alone_everything_is_due() -> None:
    made = crowd()
    assert made.alone
    assert made.due(ALL, 0.0) == ALL


def test_two_are_due_what_the_other_is_not() -> None:
    mine, theirs = crowd(OTHER).due(ALL, 0.0), Crowd(BLOCKS, OTHER)
    theirs.holds(ME, 0, True, 0.0)
    assert mine ^ theirs.due(ALL, 0.0) == ALL


def test_who_is_only_named_counts_before_its_link_is_up_but_not_for_ever() -> None:
    made = crowd()
    made.seen([OTHER, ME], 0.0)
    assert made.size == 2
    assert made.due(ALL, 1.0) != ALL
    for at in (5.0, 10.0, CROWD_PATIENCE_S):
        # Named again and again, it gains no time by it.
        made.seen([OTHER], at)
        made.tick(ALL & ~made.share, at)
    assert made.due(ALL, CROWD_PATIENCE_S) == ALL


def test_who_is_named_no_more_and_not_linked_is_forgotten() -> None:
    made = crowd(THIRD)
    made.seen([OTHER], 0.0)
    made.seen([], 1.0)
    assert made.size == 2, "the linked one stays, whatever a tracker says"


def test_a_member_that_is_whole_or_idle_has_no_share() -> None:
    made = crowd(OTHER, THIRD)
    made.holds(OTHER, ALL, True, 1.0)
    made.holds(THIRD, 1, False, 1.0)
    assert made.alone
    made.seen([OTHER, THIRD], 2.0)
    assert made.alone, "though a tracker still names them"


def test_the_share_of_one_that_gets_nothing_done_is_taken_over() -> None:
    made = crowd(OTHER, THIRD)
    theirs = ALL & ~made.due(ALL, 0.0)
    at_work = next(members(shares(ME, OTHER, THIRD).of(THIRD)))
    made.holds(THIRD, 1 << at_work, True, 10.0)
    made.tick(ALL & ~made.share, CROWD_PATIENCE_S)
    due = made.due(ALL, CROWD_PATIENCE_S)
    assert due & theirs
    assert not due & shares(ME, OTHER, THIRD).of(THIRD), "who works keeps its own"


def test_who_claims_the_same_block_again_and_again_keeps_no_share_by_it() -> None:
    made = crowd(OTHER)
    theirs = shares(ME, OTHER).of(OTHER)
    claim = 1 << next(members(theirs))
    for at in range(int(CROWD_PATIENCE_S) + 2):
        made.holds(OTHER, claim, True, float(at))
        # It refuses what it said it has.
        made.holds(OTHER, 0, True, float(at))
        made.tick(ALL & ~made.share, float(at))
    assert made.due(ALL, CROWD_PATIENCE_S + 2) == ALL


def test_where_a_block_takes_long_others_are_given_the_time_of_some() -> None:
    made = crowd(OTHER)
    made.begin(0.0)
    made.tick(ALL, 2 * CROWD_PATIENCE_S)
    assert made.due(ALL, 0.0) != ALL, "this node has got nothing either"


def test_who_is_through_helps_one_that_will_need_long_from_the_far_end() -> None:
    made = crowd(OTHER)
    theirs = shares(ME, OTHER).of(OTHER)
    taken = list(members(theirs))
    for step in range(6):
        made.holds(OTHER, sum(1 << b for b in taken[: step + 1]), True, 1.0 + step)
    left = sum(1 << block for block in taken[6:])
    assert left.bit_count() > CROWD_HELP_OVER_S, "at a block a second"
    helped = made.due(left, 7.0)
    assert helped
    assert not helped & ~left
    assert min(members(helped)) > min(members(left)), "its owner begins at the other end"
    few = sum(1 << block for block in taken[-CROWD_HELP_MIN_BLOCKS + 1 :])
    assert made.due(few, 9.0) == 0, "that is not worth a second copy"


# In a pull


def test_the_origin_is_asked_for_this_nodes_share_only(play) -> None:
    plan = play(BLOCKS * MIB, own=ME)
    plan >> SourceJoined(ORIGIN, Lane.ORIGIN, ALL)
    plan >> SourceJoined(OTHER, Lane.WEBRTC, 0, fetching=True)
    queue = [c for c in plan >> DiscoveryEnded() if isinstance(c, Fetch)]
    while queue:
        queue += [c for c in plan.deliver(queue.pop(0), 0.01) if isinstance(c, Fetch)]
        if plan.core.missing & shares(ME, OTHER).of(ME) == 0:
            break
    assert asked(plan.said, ORIGIN) == shares(ME, OTHER).of(ME)


def test_what_another_has_fetched_is_asked_of_it_and_not_of_the_origin(play) -> None:
    plan = play(BLOCKS * MIB, own=ME)
    plan >> SourceJoined(ORIGIN, Lane.ORIGIN, ALL)
    plan >> SourceJoined(OTHER, Lane.WEBRTC, 0, fetching=True)
    plan >> DiscoveryEnded()
    block = next(members(shares(ME, OTHER).of(OTHER)))
    assert asked(plan >> SourceGained(OTHER, 1 << block), OTHER) == 1 << block
    assert not asked(plan.said, ORIGIN) >> block & 1


def test_a_crowd_named_by_the_tracker_counts_before_it_is_linked(play) -> None:
    plan = play(BLOCKS * MIB, own=ME)
    plan >> SourceJoined(ORIGIN, Lane.ORIGIN, ALL)
    plan >> CrowdSeen((OTHER, THIRD))
    plan >> DiscoveryEnded()
    assert not asked(plan.said, ORIGIN) & ~shares(ME, OTHER, THIRD).of(ME)


def test_the_share_of_one_that_leaves_is_asked_for_at_once(play) -> None:
    plan = play(8 * MIB, own=ME)
    plan >> SourceJoined(ORIGIN, Lane.ORIGIN, full(8))
    plan >> SourceJoined(OTHER, Lane.WEBRTC, 0, fetching=True)
    mine = asked(plan >> DiscoveryEnded(), ORIGIN)
    assert mine != full(8)
    plan >> SourceLost(OTHER)
    while queue := [
        one
        for one in plan.said
        if isinstance(one, Fetch) and plan.core.is_open(one.source, one.request)
    ]:
        plan.deliver(queue[0], 0.5)
    assert asked(plan.said, ORIGIN) == full(8)


def test_a_seed_is_asked_for_this_nodes_share_before_what_others_fetch_of_it(play) -> None:
    plan = play(BLOCKS * MIB, own=ME)
    plan >> SourceJoined(OTHER, Lane.WEBRTC, 0, fetching=True)
    plan >> SourceJoined(SourceId("seed"), Lane.WEBRTC, ALL)
    mine = shares(ME, OTHER).of(ME)
    queue = [c for c in plan.said if isinstance(c, Fetch)]
    for _ in range(mine.bit_count() // 8):
        queue += [c for c in plan.deliver(queue.pop(0), 0.1) if isinstance(c, Fetch)]
    assert not asked(plan.said) & ~mine
    while queue:
        queue += [c for c in plan.deliver(queue.pop(0), 0.1) if isinstance(c, Fetch)]
    assert plan.core.missing == 0, "and with nothing else to do, for all of it"


def test_a_downloader_that_hangs_is_not_counted_on(play) -> None:
    plan = play(8 * MIB, own=ME)
    plan >> SourceJoined(ORIGIN, Lane.ORIGIN, full(8))
    plan >> SourceJoined(OTHER, Lane.WEBRTC, 0, fetching=True)
    for one in [c for c in plan >> DiscoveryEnded() if isinstance(c, Fetch)]:
        for block in range(one.first, one.first + one.count):
            plan >> BlockVerified(ORIGIN, one.request, block)
    plan >> SourceGained(OTHER, shares(ME, OTHER, blocks=8).of(OTHER))
    assert asked(plan.said, OTHER)
    for _ in range(60):
        plan.after(0.5) >> Tick()
        if asked(plan.said, ORIGIN) == full(8):
            break
    assert asked(plan.said, ORIGIN) == full(8)
    assert plan.now < 30
