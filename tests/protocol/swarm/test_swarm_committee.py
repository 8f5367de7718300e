"""A few of a large crowd fetch for all: who they are, who waits, and for how long."""

from __future__ import annotations

from random import Random

from dreamer.protocol.ids import NodeId
from dreamer.protocol.limits import (
    CROWD_COMMITTEE,
    CROWD_FETCHING_PER_WHOLE,
    CROWD_PATIENCE_S,
    CROWD_UNSEEN_S,
    MIB,
)
from dreamer.protocol.swarm.bitfield import full, members, span
from dreamer.protocol.swarm.committee import committee
from dreamer.protocol.swarm.crowd import Crowd
from dreamer.protocol.swarm.holders import Found, Swarm, merged
from dreamer.protocol.swarm.vocabulary import (
    CrowdSeen,
    DiscoveryEnded,
    Fetch,
    Lane,
    SourceGained,
    SourceId,
    SourceJoined,
    Tick,
)
from dreamer.protocol.tracker_limits import TRACKER_SEEK_MAX_NODES

SWARM = b"s" * 20
NODES = [NodeId(number.to_bytes(32, "big")) for number in range(1000)]
BLOCKS = 400
ALL = full(BLOCKS)
ME, PEER, SEED, ORIGIN = (SourceId(name) for name in ("me", "peer", "seed", "origin"))
CHOSEN = tuple(SourceId(f"chosen{number}") for number in range(4))


def swarm(fetching: int, whole: int = 1) -> Swarm:
    made = Swarm(SWARM)
    for node in NODES[:fetching]:
        made.claim(node, whole=False)
    for node in NODES[fetching : fetching + whole]:
        made.claim(node, whole=True)
    return made


def asked(commands, source: SourceId) -> int:
    found = 0
    for one in commands:
        if isinstance(one, Fetch) and one.source == source:
            found |= span(one.first, one.count)
    return found


# Who


def test_everybody_is_told_of_the_same_committee_of_those_that_fetch() -> None:
    crowd = swarm(900)
    told = [crowd.found(asker, Random(seed)) for seed, asker in enumerate(NODES[:20])]
    assert {one.committee for one in told} == {tuple(committee(SWARM, NODES[:900]))}
    assert len({one.nodes for one in told}) == 20, "the others by chance"
    assert all(len(one.nodes) == TRACKER_SEEK_MAX_NODES for one in told)
    assert all(asker not in one.nodes for asker, one in zip(NODES, told, strict=False))
    assert all(one.whole == (NODES[900],) == one.nodes[:1] for one in told)


def test_who_comes_or_goes_changes_one_place_at_most() -> None:
    crowd = swarm(900)
    before = crowd.found(NODES[0], Random(1)).committee
    assert before is not None
    for node in NODES[901:]:
        crowd.claim(node, whole=False)
    grown = crowd.found(NODES[0], Random(1)).committee
    assert grown == tuple(committee(SWARM, [*NODES[:900], *NODES[901:]]))
    crowd.disclaim(grown[3])
    left = crowd.found(NODES[0], Random(1)).committee
    assert left is not None
    assert {*grown} - {*left} == {grown[3]}
    crowd.claim(left[5], whole=True)
    assert left[5] not in (crowd.found(NODES[0], Random(1)).committee or ()), "it fetches no more"


def test_small_crowds_and_those_with_many_seeds_have_none() -> None:
    assert swarm(CROWD_COMMITTEE).found(NODES[0], Random(1)).committee is None
    assert swarm(CROWD_COMMITTEE + 1).found(NODES[0], Random(1)).committee is not None
    plenty = swarm(100, 100 // CROWD_FETCHING_PER_WHOLE)
    assert plenty.found(NODES[0], Random(1)).committee is None


def test_a_swarm_that_is_left_by_all_is_empty_whatever_was_asked_of_it() -> None:
    crowd = swarm(100)
    crowd.found(NODES[0], Random(1))
    for node in reversed(NODES):
        crowd.disclaim(node)
    assert len(crowd) == 0
    assert crowd.found(NODES[0], Random(1)) == Found()


def test_trackers_that_know_a_part_each_name_one_committee_together() -> None:
    parts = [NODES[:100], NODES[100:200]]
    answers = [Found((part[0],), (), tuple(committee(SWARM, part))) for part in parts]
    assert merged(SWARM, answers).committee == tuple(committee(SWARM, NODES[:200]))
    assert merged(SWARM, [Found(), Found()]).committee is None


# What they do


def joined(play, *, own: SourceId = ME, committee=CHOSEN):
    """A pull with a seed, an origin and one peer that has nothing yet, in a crowd."""
    plan = play(BLOCKS * MIB, own=own)
    plan >> CrowdSeen(committee, committee)
    plan >> SourceJoined(ORIGIN, Lane.ORIGIN, ALL)
    plan >> SourceJoined(SEED, Lane.WEBRTC, ALL)
    plan >> SourceJoined(PEER, Lane.WEBRTC, 0, fetching=True)
    plan >> DiscoveryEnded()
    return plan


def test_who_is_in_it_asks_the_seed_for_its_share_and_nobody_else_asks_it(play) -> None:
    each = [asked(joined(play, own=own).said, SEED) for own in CHOSEN]
    assert all(each)
    for one, blocks in enumerate(each):
        assert not any(blocks & other for other in each[one + 1 :])
    waiting = joined(play)
    for _ in range(50):
        waiting.after(0.1) >> Tick()
    assert not asked(waiting.said, SEED)
    assert not asked(waiting.said, ORIGIN)


def test_shares_of_the_committee_are_everything() -> None:
    divided = []
    for own in CHOSEN:
        crowd = Crowd(BLOCKS, own)
        crowd.seen([SourceId("named"), *(one for one in CHOSEN if one != own)], 0.0, CHOSEN)
        crowd.holds(PEER, 0, True, 0.0)
        divided.append(crowd.share)
    assert sum(divided) == ALL, "none twice, none left out, and none for others"


def test_who_waits_gets_it_of_peers(play) -> None:
    plan = joined(play)
    got = asked(plan >> SourceGained(PEER, span(0, 8)), PEER)
    assert got
    assert not got & ~span(0, 8)
    assert not asked(plan.said, SEED)


def test_what_was_asked_for_before_the_crowd_was_known_is_left_to_the_committee(play) -> None:
    plan = play(BLOCKS * MIB, own=ME)
    plan >> SourceJoined(SEED, Lane.WEBRTC, ALL)
    owed = [
        block
        for one in plan.said
        if isinstance(one, Fetch)
        for block in members(span(one.first, one.count))
    ]
    assert len(owed) > 1
    plan >> CrowdSeen(CHOSEN, CHOSEN)
    source = plan.core._sources[SEED]
    assert source.pending() == 1 << owed[0], "what is on its way comes"


def test_nobody_waits_for_ever_nor_all_for_as_long(play) -> None:
    ends = []
    for name in ("me", "you", "they"):
        plan = joined(play, own=SourceId(name))
        while not asked(plan.said, SEED):
            plan.after(1.0) >> Tick()
        ends.append(plan.now)
    assert min(ends) >= 2 * CROWD_PATIENCE_S
    assert max(ends) <= 4 * CROWD_PATIENCE_S + 2.0
    assert len({*ends}) == 3


def test_a_committee_that_wakes_up_again_is_left_to_it() -> None:
    crowd = Crowd(BLOCKS, ME)
    crowd.seen(CHOSEN, 0.0, CHOSEN)
    crowd.holds(PEER, 0, True, 0.0)
    crowd.tick(ALL, 1.0)
    assert not crowd.deserted
    crowd.tick(ALL, 5 * CROWD_PATIENCE_S)
    assert crowd.deserted
    assert crowd.due(ALL, 5 * CROWD_PATIENCE_S)
    crowd.holds(PEER, 1, True, 5 * CROWD_PATIENCE_S + 1)
    assert not crowd.deserted
    assert not crowd.due(ALL & ~1, 5 * CROWD_PATIENCE_S + 1)


def test_who_comes_when_peers_have_everything_waits_for_nobody() -> None:
    crowd = Crowd(BLOCKS, ME)
    crowd.holds(PEER, ALL & ~1, True, 0.0)
    crowd.seen(CHOSEN, 0.0, CHOSEN)
    crowd.tick(ALL & ~1, 10 * CROWD_PATIENCE_S)
    assert not crowd.deserted


def test_when_a_tracker_names_no_committee_any_more_everybody_has_a_share() -> None:
    crowd = Crowd(BLOCKS, ME)
    crowd.seen(CHOSEN, 0.0, CHOSEN)
    assert not crowd.share
    crowd.seen(CHOSEN, 1.0, None)
    assert crowd.share


def on_committee(now: float) -> Crowd:
    """A member of a committee of five, four of which it isn't linked to."""
    made = Crowd(BLOCKS, ME)
    made.seen(CHOSEN, now, (ME, *CHOSEN))
    return made


def test_share_of_a_member_out_of_sight_is_left_to_it_longer() -> None:
    made = on_committee(0.0)
    own = made.share
    made.tick(ALL, CROWD_PATIENCE_S)
    assert made.share == own
    made.tick(ALL, CROWD_UNSEEN_S)
    assert made.share == ALL


def test_heirs_of_one_that_brings_nothing_have_less_time() -> None:
    made = on_committee(0.0)
    made.tick(ALL, CROWD_UNSEEN_S)
    late = SourceId("late")
    made.seen((*CHOSEN, late), CROWD_UNSEEN_S, (ME, *CHOSEN, late))
    assert made.share != ALL
    made.tick(ALL, 1.5 * CROWD_UNSEEN_S)
    assert made.share == ALL


def test_member_that_is_through_with_its_share_is_no_loss() -> None:
    made = on_committee(0.0)
    linked, *_ = CHOSEN
    made.holds(linked, 0, True, 0.0)
    # Whatever it was to fetch, it has now; nothing more is to come of it.
    made.holds(linked, ALL >> 1, True, 1.0)
    made.tick(ALL, 1.0 + CROWD_PATIENCE_S)
    others = made.share
    made.tick(ALL, 0.5 * CROWD_UNSEEN_S + 1.0)
    assert made.share == others, "the others have their whole time"
