"""Links kept up for the sake of gossip: enough of them, to members of chance, never all at once."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from random import Random

import pytest

from dreamer.protocol.ids import NodeId
from dreamer.protocol.limits import (
    LINKS_MESH_MIN,
    MESH_INTERVAL_S,
    MESH_PAUSE_MAX_S,
    MESH_RETRY_S,
)
from dreamer.protocol.link.mesh import Mesh


def node(number: int) -> NodeId:
    return NodeId(number.to_bytes(32, "big"))


OTHERS = [node(number) for number in range(1, 21)]


def calls(mesh: Mesh, seconds: int, present=OTHERS, linked=(), coming_up: int = 0, start: int = 0):
    """Whom a node calls within some seconds, if nobody answers."""
    found = (
        mesh.tick(linked, coming_up, present, float(now)) for now in range(start, start + seconds)
    )
    return [each for each in found if each is not None]


def test_calls_others_until_there_are_enough():
    mesh, linked = Mesh(3, Random(1)), {}
    for now in range(60):
        called = mesh.tick(linked, 0, OTHERS, float(now))
        if called is not None:
            assert called not in linked
            linked[called] = None
    assert len(linked) == 3


def test_links_that_are_coming_up_count():
    assert calls(Mesh(3, Random(1)), 60, linked=OTHERS[:1], coming_up=2) == []


def test_lost_link_is_replaced_after_a_pause():
    mesh = Mesh(3, Random(1))
    assert calls(mesh, 10, linked=OTHERS[:3]) == []
    assert mesh.tick(OTHERS[:2], 0, OTHERS, 10.0) is None
    assert len(calls(mesh, int(2 * MESH_INTERVAL_S) + 1, linked=OTHERS[:2], start=11)) >= 1


def test_who_does_not_answer_is_tried_again_later_and_ever_more_seldom():
    mesh = Mesh(3, Random(1))
    tries = [now for now in range(7200) if mesh.tick((), 0, OTHERS[:1], float(now)) is not None]
    pauses = [later - earlier for earlier, later in pairwise(tries)]
    assert min(pauses) >= MESH_RETRY_S / 2
    assert pauses[-1] > 4 * pauses[0]
    assert 5 < len(tries) < 40


@pytest.mark.parametrize("seed", range(4))
def test_node_that_reaches_nobody_calls_ever_more_seldom_and_soon_again_once_it_does(seed):
    mesh = Mesh(3, Random(seed))
    many = [node(number) for number in range(1, 1000)]
    calls(mesh, 1800, present=many)
    in_an_hour = len(calls(mesh, 3600, present=many, start=1800))
    assert 0.5 < in_an_hour / (3600 / MESH_PAUSE_MAX_S) < 1.5
    linked = [next(iter(mesh.called))]
    for now in range(5400, 5430):
        called = mesh.tick(linked, 0, many, float(now))
        if called is not None:
            linked.append(called)
    assert len(linked) == 3


def test_nobody_is_called_in_a_room_of_one_or_when_links_are_not_wanted():
    assert calls(Mesh(3, Random(1)), 60, present=[]) == []
    assert calls(Mesh(0, Random(1)), 60) == []


def test_everybody_present_is_found_even_if_few_are_left():
    assert set(calls(Mesh(20, Random(1)), 200, linked=OTHERS[:18])) == set(OTHERS[18:])


@pytest.mark.parametrize("seed", [1, 2])
def test_thousand_nodes_that_start_at_once_neither_crowd_a_second_nor_a_node(seed):
    count, attempts = 1000, Counter()
    everybody = [node(number) for number in range(count)]
    meshes = [Mesh(LINKS_MESH_MIN, Random(f"{seed}/{number}")) for number in range(count)]
    links = {one: {} for one in everybody}
    called = Counter()
    for now in range(40):
        made = []
        for ours, mesh in zip(everybody, meshes, strict=True):
            target = mesh.tick(links[ours], 0, everybody, float(now))
            if target is not None and target != ours:
                attempts[now] += 1
                called[target, now] += 1
                made.append((ours, target))
        for one, other in made:
            links[one][other] = links[other][one] = None
    assert min(map(len, links.values())) >= LINKS_MESH_MIN
    # Three calls a node at the most, over several seconds; the busiest node is called by a few.
    assert sum(attempts.values()) <= LINKS_MESH_MIN * count
    assert max(attempts.values()) < count / 2
    assert max(called.values()) <= 8
    assert max(map(len, links.values())) < 20
    assert len(reached(links, everybody[0])) == count


def reached(links, start) -> dict:
    found, ahead = {start: None}, [start]
    while ahead:
        for each in links[ahead.pop()]:
            if each not in found:
                found[each] = None
                ahead.append(each)
    return found


def test_links_lost_all_at_once_come_back_spread_over_seconds():
    meshes = [Mesh(3, Random(number)) for number in range(500)]
    for mesh in meshes:
        assert calls(mesh, 5, linked=OTHERS[:3]) == []
    first = Counter(
        next(now for now in range(5, 60) if mesh.tick(OTHERS[:2], 0, OTHERS, float(now)))
        for mesh in meshes
    )
    assert len(first) >= 4
    assert max(first.values()) < 250
