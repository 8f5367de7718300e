"""Who is reached over whom: learned from neighbours, forgotten when they go, bounded always."""

from __future__ import annotations

import pytest

from dreamer.protocol import canonical
from dreamer.protocol.ids import NodeId
from dreamer.protocol.limits import (
    GOSSIP_CAPABILITIES_MAX_BYTES,
    GOSSIP_CHANGES_BURST,
    GOSSIP_CHANGES_PER_TICK,
    GOSSIP_MAX_HOPS,
    GOSSIP_MAX_NODES,
    GOSSIP_NEWS_MAX_BYTES,
)
from dreamer.protocol.link.messages import Around
from dreamer.protocol.link.routes import Routes

OURS = NodeId(b"o" * 32)


def news(*entries) -> bytes:
    return canonical.dumps({"nodes": [[node.hex(), hops, said] for node, hops, said in entries]})


def node(number: int) -> NodeId:
    return NodeId(number.to_bytes(32, "big"))


def test_everybody_hears_of_everybody_with_what_they_can_do(village):
    village.link("a", "b", "c", "d")
    village.tick(3)
    assert village.knows("a") == ["b", "c", "d"]
    assert village["a"].gossip.routes.known()[village["d"].id]["name"] == "d"


def test_nothing_is_told_twice(village):
    village.link("a", "b", "c", "d", "a")
    village.tick(5)
    before = len(village.transcript)
    village.tick(10)
    assert len(village.transcript) == before


def test_change_of_capabilities_is_passed_on(village):
    village.link("a", "b", "c")
    village.tick(2)
    village["b"].gossip.linked(village["c"].id, {"gossip": 1, "serves": True})
    village.tick(2)
    assert village["a"].gossip.routes.known()[village["c"].id]["serves"] is True


def test_longer_way_is_taken_when_the_shorter_one_is_lost(village):
    village.link("a", "b", "z")
    village.link("a", "c", "d", "z")
    village.tick(4)
    assert village["a"].gossip.routes.ways(village["z"].id)[0] == village["b"].id
    village.part("b", "z")
    village.tick(3)
    assert village["a"].gossip.routes.ways(village["z"].id)[0] == village["c"].id


@pytest.mark.parametrize("shape", ["line", "ring", "all"])
def test_who_has_left_is_forgotten_within_as_many_rounds_as_links(village, shape):
    names = [f"n{number}" for number in range(6)]
    village.link(*names)
    if shape == "ring":
        village.link(names[-1], names[0])
    if shape == "all":
        for one in names:
            for other in names:
                if one < other:
                    village.link(one, other)
    village.tick(6)
    gone = names[2]
    village.leave(gone)
    village.tick(2 * GOSSIP_MAX_HOPS)
    assert all(gone not in village.knows(name) for name in names if name != gone)


def test_nobody_takes_its_own_news_of_a_lost_node_for_another_way_to_it(village):
    village.link("a", "b", "c")
    village.tick(2)
    village.leave("c")
    assert village.knows("b") == ["a"]
    village.tick(1)
    assert village.knows("a") == ["b"]
    assert village.knows("b") == ["a"]


def test_village_that_is_cut_in_two_knows_so_and_grows_together_again(village):
    village.link("a", "b", "c", "d")
    village.tick(3)
    village.part("b", "c")
    village.tick(GOSSIP_MAX_HOPS)
    assert village.knows("a") == ["b"]
    assert village.knows("d") == ["c"]
    village.link("a", "d")
    village.tick(3)
    assert village.knows("b") == ["a", "c", "d"]


def test_who_is_too_far_is_not_known(village):
    names = [f"n{number}" for number in range(GOSSIP_MAX_HOPS + 3)]
    village.link(*names)
    village.tick(12)
    assert len(village.knows(names[0])) == GOSSIP_MAX_HOPS


def test_neighbour_that_makes_up_members_makes_up_a_bounded_number():
    routes = Routes(OURS)
    liar, honest = node(1), node(2)
    routes.linked(liar, b"{}")
    for number in range(10, 10 + 3 * GOSSIP_MAX_NODES):
        routes.hear(liar, news((node(number), 1, {})))
    assert len(routes.known()) == GOSSIP_MAX_NODES
    # A member that is linked is known all the same, but adds nobody while there is no room.
    routes.linked(honest, b"{}")
    assert routes.knows(honest)
    routes.hear(honest, news((node(5), 1, {})))
    assert len(routes.known()) == GOSSIP_MAX_NODES + 1
    routes.unlinked(liar)
    assert list(routes.known()) == [honest]
    routes.hear(honest, news((node(5), 1, {})))
    assert routes.knows(node(5))


def test_made_up_members_keep_no_real_one_out():
    routes = Routes(OURS)
    liar, honest, real = node(1), node(2), node(3)
    routes.linked(liar, b"{}")
    routes.linked(honest, b"{}")
    routes.vouch([real, node(4)])
    for number in range(10, 10 + GOSSIP_MAX_NODES):
        routes.hear(liar, news((node(number), 1, {})))
    routes.hear(honest, news((real, 1, {}), (node(5), 1, {})))
    assert routes.ways(real) == [honest]
    assert not routes.knows(node(5))
    assert len(routes.known()) == GOSSIP_MAX_NODES
    # Not even where the way leads over the liar, and all that it may name is named.
    routes.hear(liar, news((node(4), 1, {})))
    assert routes.ways(node(4)) == [liar]
    assert routes.vouched == [liar, honest, real, node(4)]


def test_members_that_were_reported_are_remembered_up_to_a_bound():
    routes = Routes(OURS)
    for start in range(10, 6010, 100):
        routes.vouch(node(start + each) for each in range(100))
    assert len(routes._vouched) == 2 * GOSSIP_MAX_NODES
    assert node(6009) in routes._vouched


def test_members_that_were_reported_displace_nobody_else_who_was():
    routes = Routes(OURS)
    routes.linked(node(1), b"{}")
    everybody = [node(number) for number in range(10, 10 + GOSSIP_MAX_NODES)]
    routes.vouch(everybody)
    for each in everybody:
        routes.hear(node(1), news((each, 1, {})))
    known = list(routes.known())
    assert len(known) == GOSSIP_MAX_NODES
    routes.vouch([node(9)])
    routes.hear(node(1), news((node(9), 1, {})))
    assert list(routes.known()) == known


def test_neighbour_that_flips_its_news_is_learned_from_slowly_and_is_told_on_slowly():
    routes = Routes(OURS)
    flipping, other = node(1), node(2)
    routes.linked(flipping, b"{}")
    routes.linked(other, b"{}")
    for turn in range(40):
        hops = 1 + turn % 2
        routes.hear(flipping, news(*((node(n), hops, {}) for n in range(10, 110))))
    while routes.news(other) is not None:
        pass
    assert routes._neighbours[flipping].changes_left == GOSSIP_CHANGES_BURST - 2000 == 0
    routes.hear(flipping, news(*((node(n), 0, {}) for n in range(10, 110))))
    assert routes.news(other) is None
    routes.tick()
    # The last word counts in the end, at its own pace.
    assert len(routes.known()) == 2 + 100 - GOSSIP_CHANGES_PER_TICK
    routes.tick()
    assert list(routes.known()) == [flipping, other]


def test_news_that_wait_are_bounded():
    routes = Routes(OURS)
    routes.linked(node(1), b"{}")
    for start in range(10, 6010, 100):
        routes.hear(node(1), news(*((node(start + n), 1, {}) for n in range(100))))
    assert len(routes._neighbours[node(1)].waiting) == GOSSIP_CHANGES_BURST


def test_capabilities_kept_for_one_neighbour_are_bounded(monkeypatch):
    monkeypatch.setattr("dreamer.protocol.link.routes.GOSSIP_CAPABILITIES_PER_LINK_BYTES", 2000)
    routes = Routes(OURS)
    routes.linked(node(1), b"{}")
    routes.linked(node(2), b"{}")
    long = {"name": "x" * 600}
    for number in range(10, 20):
        routes.hear(node(1), news((node(number), 1, long)))
    assert sum(said == long for said in routes.known().values()) == 3
    routes.hear(node(2), news((node(19), 1, long)))
    assert routes.known()[node(19)] in ({}, long)
    routes.hear(node(1), news(*((node(number), 0, {}) for number in range(10, 20))))
    routes.hear(node(1), news((node(30), 1, long)))
    assert routes.known()[node(30)] == long


def test_capabilities_that_are_too_long_are_left_out():
    routes = Routes(OURS)
    routes.linked(node(1), canonical.dumps({"x": "y" * GOSSIP_CAPABILITIES_MAX_BYTES}))
    routes.hear(node(1), news((node(2), 1, {"x": "y" * GOSSIP_CAPABILITIES_MAX_BYTES})))
    assert routes.known() == {node(1): {}, node(2): {}}


def test_much_news_goes_in_messages_of_bounded_size(village):
    a = village["a"].gossip
    a.linked(village["b"].id, {"gossip": 1})
    a.linked(village["c"].id, {"gossip": 1})
    for start in range(0, 900, 50):
        entries = [(node(start + each + 1), 1, {"name": "n" * 100}) for each in range(50)]
        a.hear(village["b"].id, Around(news(*entries)), float(start))
    told: list[bytes] = []
    for _ in range(30):
        to_c = [each for each in a.tick() if each.peer == village["c"].id]
        told += [each.message.news for each in to_c]
    assert 5 < len(told) < 30
    assert max(map(len, told)) <= GOSSIP_NEWS_MAX_BYTES
    reader = Routes(OURS)
    reader.linked(village["a"].id, b"{}")
    for each in told:
        reader.hear(village["a"].id, each)
    assert len(reader.known()) == 902


def test_news_about_oneself_and_from_strangers_changes_nothing():
    routes = Routes(OURS)
    routes.linked(node(1), b'{"name":"one"}')
    routes.hear(node(1), news((OURS, 1, {}), (node(1), 3, {"name": "other"})))
    routes.hear(node(2), news((node(3), 1, {})))
    routes.unlinked(node(7))
    assert routes.known() == {node(1): {"name": "one"}}
