"""Removals that members tell one another over links; the revocations are real."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from dreamer.daemon.room.revocation_exchange import RevocationExchange
from dreamer.daemon.room.revocations import Revocations
from dreamer.daemon.state import State
from dreamer.protocol import canonical
from dreamer.protocol.errors import ForbiddenError, RemoteProtocolError
from dreamer.protocol.ids import NodeId, RoomId
from dreamer.protocol.limits import REVOCATIONS_REFUSED_MAX
from dreamer.protocol.link.gossip import GOSSIP
from dreamer.protocol.link.messages import Ping, Revoked
from dreamer.protocol.rooms.keys import SigningKey
from dreamer.protocol.rooms.revocations import Revocation

KEY = SigningKey(b"\1" * 32)
ROOM = RoomId(KEY.public)
NOW = 1_800_000_000.0


def revocation(number: int, key: SigningKey = KEY) -> Revocation:
    node = NodeId(number.to_bytes(32, "big"))
    return Revocation(ROOM, number, node, int(NOW), ()).signed_by(key)


class Member:
    """A node that keeps revocations, and links to others that carry messages at once."""

    def __init__(self, number: int, root) -> None:
        self.id = NodeId(bytes([number]) * 32)
        self.state = State(root / f"{number}.db")
        self.capabilities = {GOSSIP: 1}
        self.tracker_there = False
        self.checked = 0
        self.heard: list[object] = []
        self.revocations = Revocations(ROOM, self.state)
        self.exchange = RevocationExchange(
            self.revocations.known, self.take, lambda: not self.tracker_there
        )

    def take(self, one: Revocation) -> bool:
        self.checked += 1
        try:
            if self.revocations.take(one, NOW):
                self.exchange.tell(one)
        except ForbiddenError:
            return False
        return True

    def link_to(self, other: Member):
        def send(message) -> None:
            other.heard.append(message)
            other.exchange.message(other.link_to(self), message)

        return SimpleNamespace(
            number=other.id[0], peer=other.id, capabilities=other.capabilities, send=send
        )

    def removed(self) -> set[int]:
        return {one.number for one in self.revocations.known()}


@pytest.fixture
def members(tmp_path):
    made = [Member(number, tmp_path) for number in (1, 2, 3)]
    yield made
    for one in made:
        one.state.close()


def meet(a: Member, b: Member) -> None:
    a.exchange.link_up(a.link_to(b))
    b.exchange.link_up(b.link_to(a))


def test_who_links_hears_of_all_removals_and_passes_them_on(members) -> None:
    a, b, c = members
    meet(b, c)
    for number in (1, 2):
        a.take(revocation(number))
    meet(a, b)
    assert a.removed() == b.removed() == c.removed() == {1, 2}


def test_a_removal_is_told_to_who_is_linked_and_goes_round_once(members) -> None:
    a, b, c = members
    meet(a, b)
    meet(b, c)
    meet(c, a)
    a.take(revocation(1))
    assert b.removed() == c.removed() == {1}
    assert sum(len(one.heard) for one in members) <= 6


def test_nothing_is_said_over_links_while_a_tracker_tells_all(members) -> None:
    a, b, _ = members
    a.tracker_there = True
    meet(a, b)
    a.take(revocation(1))
    assert b.heard == []


def test_an_older_node_is_not_told(members) -> None:
    a, b, _ = members
    b.capabilities = {}
    meet(a, b)
    a.take(revocation(1))
    assert b.heard == []


def test_a_lost_link_is_forgotten(members) -> None:
    a, b, _ = members
    meet(a, b)
    a.exchange.link_down(a.link_to(b), "gone")
    a.take(revocation(1))
    assert b.heard == []


def test_a_forged_removal_ends_nobody_and_costs_only_so_much(members) -> None:
    a, b, _ = members
    meet(a, b)
    forger = SigningKey(b"\2" * 32)
    for number in range(REVOCATIONS_REFUSED_MAX + 10):
        forged = revocation(number, forger)
        b.exchange.message(b.link_to(a), Revoked(canonical.dumps(forged.to_json())))
    assert b.removed() == set()
    assert b.checked == REVOCATIONS_REFUSED_MAX


@pytest.mark.parametrize("junk", [b"", b"[]", b"{}", b"\xff", b'{"room": "x"}'])
def test_what_is_no_revocation_costs_the_link(members, junk) -> None:
    a, b, _ = members
    with pytest.raises(RemoteProtocolError, match="can't be read"):
        b.exchange.message(b.link_to(a), Revoked(junk))


def test_other_messages_are_no_business_of_the_exchange(members) -> None:
    a, b, _ = members
    b.exchange.message(b.link_to(a), Ping(1))
    assert b.checked == 0
