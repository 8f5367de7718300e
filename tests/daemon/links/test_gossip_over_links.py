"""Gossip over real links: whoever shares a neighbour finds and links one another by it."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest

from dreamer.daemon.links import neighbours as module
from dreamer.daemon.links.link import Fanout
from dreamer.daemon.links.neighbours import Neighbours
from dreamer.protocol import canonical
from dreamer.protocol.ids import ManifestId
from dreamer.protocol.limits import GOSSIP_MAX_COMING_UP, GOSSIP_MAX_HOPS, GOSSIP_MAX_NODES
from dreamer.protocol.link.messages import Around, Pass

MODEL = ManifestId(b"m" * 32)


class Village:
    """Members of a room that gossip; ``deaf`` takes away the tracker between them."""

    def __init__(self, room) -> None:
        self.room = room
        self.gossips: dict[bytes, Neighbours] = {}

    def member(self, number: int, *held: ManifestId, wanted: int = 0, talks: bool = True):
        made = self.room.member(number)
        said = {"name": made.name, **({"gossip": 1} if talks else {})}
        made.links.update_capabilities(canonical.dumps(said))
        if talks:
            gossip = self.gossips[made.id] = Neighbours(
                *(made.id, made.links, held.__contains__, made.links.signal_received, wanted),
                rng=Random(number),
                clock=lambda: self.room.now,
            )
            both = Fanout()
            both.add(made.heard)
            both.add(gossip)
            made.links._listener = both
        return made

    def link(self, *members) -> None:
        for one, other in pairwise(members):
            one.links.connect(other.id)
            self.room.settle()
            assert one.linked(other)

    def tick(self, seconds: int, *present) -> None:
        for _ in range(seconds):
            self.room.tick(1)
            for member in self.room.members.values():
                if gossip := self.gossips.get(member.id):
                    gossip.tick([one.id for one in present if one is not member])
            self.room.settle()

    def lose_the_tracker(self) -> None:
        """Let signals go by neighbours alone, as they do when no tracker is there."""

        def by_neighbours(sender, peer, body) -> None:
            if not self.gossips[sender.id].pass_on(peer, body):
                sender.links.unreachable(peer)

        self.room.signal = by_neighbours

    def __getitem__(self, member) -> Neighbours:
        return self.gossips[member.id]


@pytest.fixture
def village(room) -> Village:
    return Village(room)


@pytest.mark.parametrize("turned_round", [False, True], ids=["offering", "knocking"])
def test_two_that_share_a_neighbour_link_without_a_tracker(village, turned_round):
    a, b, c = (village.member(number) for number in (2, 3, 4))
    village.link(a, b, c)
    village.tick(2)
    village.lose_the_tracker()
    one, other = sorted((a, c), key=lambda member: member.id, reverse=turned_round)
    one.links.connect(other.id)
    village.tick(1)
    assert a.linked(c)
    assert a.linked(b)
    assert b.linked(c)
    assert village[a].known[c.id]["name"] == c.name


def test_ends_of_a_chain_of_neighbours_link_and_are_neighbours_then(village):
    members = [village.member(number) for number in range(2, 2 + GOSSIP_MAX_HOPS)]
    village.link(*members)
    village.tick(GOSSIP_MAX_HOPS)
    village.lose_the_tracker()
    members[0].links.connect(members[-1].id)
    village.tick(1)
    assert members[0].linked(members[-1])


def test_neighbour_that_tampers_with_a_signal_gets_no_link_for_itself(village):
    a, b, c = (village.member(number) for number in (2, 3, 4))
    village.link(a, b, c)
    village.tick(2)
    village.lose_the_tracker()
    gossip, spoilt = village[b], []

    def tamper(link, message):
        if isinstance(message, Pass):
            spoilt.append(message)
            body = canonical.loads_lenient(message.body)
            evil = canonical.dumps({**body, "sdp": f"{b.transport.name}/1"})
            message = Pass(message.origin, message.target, message.hops, evil)
        Neighbours.message(gossip, link, message)

    gossip.message = tamper
    a.links.connect(c.id)
    village.tick(20)
    assert spoilt
    assert not a.linked(c)
    assert a.linked(b)


def test_members_keep_a_few_links_and_replace_those_they_lose(village):
    members = [village.member(number, wanted=3) for number in range(2, 9)]
    village.tick(15, *members)
    assert all(len(one.links.links) >= 3 for one in members)
    gone = members.pop(0)
    gone.links.close()
    del village.room.members[gone.id]
    village.tick(15, *members)
    assert all(len(one.links.links) >= 3 for one in members)
    assert not any(gone.id in village[one].known for one in members)


def test_members_mend_their_net_when_no_tracker_is_there(village):
    members = [village.member(number, wanted=2) for number in range(2, 6)]
    village.link(*members)
    village.tick(4)
    village.lose_the_tracker()
    village.tick(10)
    assert members[0].linked(members[2]) or members[0].linked(members[3])
    assert all(len(one.links.links) >= 2 for one in members)


def test_capabilities_are_taken_when_they_change_and_not_each_second(village, monkeypatch):
    a, b = village.member(2), village.member(3)
    village.link(a, b)
    taken = []
    gossip = village[a]._gossip
    linked = gossip.linked
    monkeypatch.setattr(gossip, "linked", lambda *said: (taken.append(said), linked(*said)))
    village.tick(3)
    assert taken == []
    b.links.update_capabilities(canonical.dumps({"gossip": 1, "name": "other"}))
    village.tick(3)
    assert taken == [(b.id, {"gossip": 1, "name": "other"})]
    assert village[a].known[b.id]["name"] == "other"


def pretend(village, liar, victim, numbers) -> None:
    """Send offers of members that the liar made up, and swallow the answers."""
    passed_on = type(village.room).signal

    def swallow(sender, peer, body) -> None:
        if peer in village.room.members:
            passed_on(village.room, sender, peer, body)

    village.room.signal = swallow
    for number in numbers:
        offer = canonical.dumps({"kind": "offer", "attempt": 1, "sdp": "x"})
        made_up = Pass(number.to_bytes(32, "big"), victim.id, 1, offer)
        liar.links.link(victim.id).send(made_up)


def test_made_up_offers_take_few_connections_and_trackers_still_get_through(village):
    liar, victim, friend = (village.member(number) for number in (2, 3, 4))
    village.link(liar, victim)
    pretend(village, liar, victim, range(1, 41))
    village.room.settle()
    assert len(victim.links.coming_up) == GOSSIP_MAX_COMING_UP
    village.link(friend, victim)


def test_made_up_offers_keep_nobody_from_replacing_its_links(village):
    liar, victim, friend = village.member(2), village.member(3, wanted=2), village.member(4)
    village.link(liar, victim)
    for second in range(10):
        pretend(village, liar, victim, range(1 + 5 * second, 6 + 5 * second))
        village.tick(1, friend)
    assert victim.linked(friend)


def test_members_that_trackers_reported_once_are_called_before_made_up_ones(village):
    liar, friend, other = (village.member(number) for number in (2, 4, 5))
    victim = village.member(3, wanted=3)
    village.link(liar, victim)
    village.link(liar, friend, other)
    village[victim].tick([friend.id, other.id])
    for start in range(1, GOSSIP_MAX_NODES, 100):
        nodes = [[f"{number:064x}", 1, {}] for number in range(start, start + 100)]
        liar.links.link(victim.id).send(Around(canonical.dumps({"nodes": nodes})))
    village.room.settle()
    village.tick(3)
    village.lose_the_tracker()
    village.tick(15)
    assert victim.linked(friend)
    assert victim.linked(other)


async def test_holder_is_found_by_asking_the_neighbours(village, monkeypatch):
    monkeypatch.setattr(module, "GOSSIP_SEEK_WAIT_S", 0.0)
    a, b, c = village.member(2), village.member(3), village.member(4, MODEL)
    village.link(a, b, c)

    async def answered(seconds):
        village.room.settle()

    monkeypatch.setattr(module.asyncio, "sleep", answered)
    found = await village[a].seek(MODEL)
    assert found == [c.id]
    assert await village[a].seek(ManifestId(b"x" * 32)) == []
    assert village[a]._answers == {}


async def test_who_has_no_neighbour_finds_nobody_and_does_not_wait(village):
    a = village.member(2)
    assert await village[a].seek(MODEL) == []


def test_member_of_an_older_version_is_left_in_peace(village):
    a, b, old = village.member(2), village.member(3), village.member(4, talks=False)
    village.link(a, old, b)
    village.link(a, b)
    village.tick(5)
    assert old.heard.messages == []
    assert old.linked(a)
    assert old.id not in village[b].known


def test_gossip_that_can_not_be_read_costs_only_the_link_it_came_by(village):
    a, b, c = (village.member(number) for number in (2, 3, 4))
    village.link(a, b, c)
    c.links.link(b.id).send(Around(b"rubbish"))
    village.room.settle()
    assert not b.linked(c)
    assert a.linked(b)
