"""Whom a pull links to: everybody in a small swarm, a chosen few in a large one."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import pairwise
from random import Random

import pytest

from dreamer.protocol.ids import NodeId
from dreamer.protocol.limits import (
    CROWD_COMMITTEE,
    DISCOVERY_MAX_S,
    DISCOVERY_REPEAT_S,
    PULL_LINKS_WANTED,
    PULL_WHOLE_LINKS_WANTED,
)
from dreamer.protocol.swarm.gathering import Connect, Ended, Gathering, Named, Part, Seek

OWN = NodeId(b"o" * 32)
MANY = [NodeId(number.to_bytes(32, "big")) for number in range(50)]
SEEDS = MANY[:3]
PEERS = tuple(MANY[3:])
COMMITTEE = tuple(NodeId(bytes([200, number]) * 16) for number in range(CROWD_COMMITTEE))


@dataclass
class View:
    """Links as a test has them."""

    up: list[NodeId] = field(default_factory=list)
    calling: list[NodeId] = field(default_factory=list)
    whole: list[NodeId] = field(default_factory=list)
    unanswered: bool = False
    deserted: bool = False

    def linked(self) -> list[NodeId]:
        return self.up

    def coming_up(self) -> list[NodeId]:
        return self.calling


def gathering(least_s: float = 0.0, seed: int = 1) -> Gathering:
    return Gathering(OWN, Random(seed), 0.0, least_s)


def called(commands) -> list[NodeId]:
    return [one.node for one in commands if isinstance(one, Connect)]


def after_answer(view: View, nodes, committee=None, whole=(), seed: int = 1):
    """What is done about one answer of a tracker."""
    search = gathering(seed=seed)
    search.tick(view, 0.0)
    search.found(nodes, committee, 0.1, whole)
    return search.tick(view, 0.1)


# Whom


def test_in_a_small_swarm_everybody_else_is_linked() -> None:
    few = MANY[:CROWD_COMMITTEE]
    assert called(after_answer(View(), [*few, OWN])) == few


def test_in_a_large_one_a_few_by_chance_and_not_the_same_for_everybody() -> None:
    one, other = (called(after_answer(View(), MANY, seed=seed)) for seed in (1, 2))
    assert len(one) == len(other) == PULL_LINKS_WANTED // 2, "as many others call it"
    assert set(one) != set(other)


def test_links_that_stand_or_come_up_count() -> None:
    view = View(up=MANY[: PULL_LINKS_WANTED - 3], calling=[NodeId(b"c" * 32)])
    commands = called(after_answer(view, MANY))
    assert len(commands) == 1
    assert not {*commands} & {*view.up}


def test_a_committee_member_links_to_those_that_have_it_all_first() -> None:
    full_up = View(up=list(PEERS[:PULL_LINKS_WANTED]))
    committee = (*COMMITTEE[1:], OWN)
    assert {*called(after_answer(full_up, MANY, committee, SEEDS))} == {*SEEDS}
    crowd = [NodeId(bytes([7, number]) * 16) for number in range(2 * PULL_WHOLE_LINKS_WANTED)]
    to_whole = called(after_answer(full_up, crowd, committee, crowd))
    assert len(to_whole) == PULL_WHOLE_LINKS_WANTED, "they have others to give to"


def test_all_others_leave_those_alone_and_give_up_links_to_them_once() -> None:
    view = View(up=[SEEDS[0], PEERS[0]], whole=[SEEDS[0]])
    search = gathering()
    search.tick(view, 0.0)
    search.found(MANY, COMMITTEE, 0.1, SEEDS)
    commands = search.tick(view, 0.1)
    assert not {*called(commands)} & {*SEEDS}
    assert Part(SEEDS[0]) in commands
    search.found(MANY, COMMITTEE, 5.0, SEEDS)
    assert Part(SEEDS[0]) not in search.tick(view, 5.0), "if it has come back, it had a reason"


def test_with_nobody_else_to_link_to_they_do_not() -> None:
    assert {*called(after_answer(View(), SEEDS, (), SEEDS))} == {*SEEDS}
    only = View(up=[SEEDS[0]], whole=[SEEDS[0]])
    assert not [one for one in after_answer(only, MANY, COMMITTEE, SEEDS) if isinstance(one, Part)]


def test_one_whose_committee_brings_nothing_turns_to_those_that_have_it_all() -> None:
    view = View(up=list(PEERS[:PULL_LINKS_WANTED]), deserted=True)
    assert {*called(after_answer(view, MANY, COMMITTEE, SEEDS))} == {*SEEDS}


# When


def test_it_asks_at_once_then_often_then_now_and_again() -> None:
    search, view, now = gathering(), View(), 0.0
    asked: list[float] = []
    while now < 30.0:
        for command in search.tick(view, now):
            if isinstance(command, Seek):
                asked.append(now)
                search.found([], None, now)
        now = max(search.next_wake(now), now + 0.001)
    pauses = [later - before for before, later in pairwise(asked)]
    assert asked[0] == 0.0
    assert pauses == sorted(pauses)
    assert pauses[0] < 1.0
    assert pauses[-1] == pytest.approx(DISCOVERY_REPEAT_S, abs=0.01)


def test_only_one_question_is_open_at_a_time() -> None:
    search = gathering()
    assert Seek() in search.tick(View(), 0.0)
    assert all(Seek() not in search.tick(View(), float(at)) for at in range(1, 10))


def test_it_ends_when_all_that_are_linked_have_answered() -> None:
    search, view = gathering(), View()
    search.tick(view, 0.0)
    assert search.found(MANY[:2], None, 0.1) == [Named(tuple(MANY[:2]), None)]
    assert Ended() not in search.tick(view, 0.1), "nobody has even been called yet"
    view.calling = MANY[:2]
    assert Ended() not in search.tick(view, 0.2)
    view.up, view.calling, view.unanswered = MANY[:2], [], True
    assert Ended() not in search.tick(view, 0.3)
    view.unanswered = False
    assert Ended() in search.tick(view, 0.4)
    assert Ended() not in search.tick(view, 0.5), "once"


def test_it_ends_though_links_never_come_up_or_nobody_answers() -> None:
    stuck, unheard = gathering(), gathering(least_s=2.0)
    view = View(calling=MANY[:1])
    stuck.tick(view, 0.0)
    stuck.found(MANY[:1], None, 0.1)
    unheard.tick(view, 0.0)
    for search in (stuck, unheard):
        assert Ended() not in search.tick(view, DISCOVERY_MAX_S - 0.1)
        assert Ended() in search.tick(view, DISCOVERY_MAX_S)


def test_before_an_origin_is_asked_whoever_came_meanwhile_is_named() -> None:
    search, view = gathering(least_s=2.0), View()
    search.tick(view, 0.0)
    search.found([], None, 0.1)
    assert Ended() not in search.tick(view, 0.2), "others may begin the same pull"
    last = [one for at in (2.0, 2.1) for one in search.tick(view, at)]
    assert Seek() in last
    assert Ended() not in last
    assert search.found(MANY[:1], None, 2.2) == [Named((MANY[0],), None), Ended()]


def test_in_a_crowd_it_does_not_wait_for_the_last_that_comes() -> None:
    view = View(up=list(PEERS[:PULL_LINKS_WANTED]), calling=[PEERS[-1]])
    search = gathering()
    search.tick(view, 0.0)
    search.found(MANY, COMMITTEE, 0.1)
    assert Ended() in [*search.tick(view, 0.1), *search.tick(view, 0.2)]
