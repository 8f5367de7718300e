"""Budgets of relays over links: what is told to whom, recorded, and survives."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from dreamer.daemon.links.link import Link, LinkListener
from dreamer.daemon.links.relays import Relays
from dreamer.daemon.state import State
from dreamer.daemon.transport.vocabulary import (
    AllowBulk,
    BulkHeld,
    LinkClosed,
    PathChanged,
    Relayed,
    SendControl,
)
from dreamer.protocol.errors import LocalError
from dreamer.protocol.ids import NodeId, RoomId
from dreamer.protocol.limits import MIB, RELAY_LINKS_REMEMBERED
from dreamer.protocol.link import messages
from dreamer.protocol.relay_budget import BULK_HELD, Budgets, RelayBudget, Usage, day_of
from dreamer.protocol.swarm.vocabulary import Lane

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC).timestamp()
ROOM = RoomId(b"r" * 32)
ANN, BOB = NodeId(b"a" * 32), NodeId(b"b" * 32)


class Heard(LinkListener):
    """A room that notes which lanes changed."""

    def __init__(self) -> None:
        self.changed: list[tuple[int, bool]] = []

    def lane_changed(self, link: Link) -> None:
        self.changed.append((link.number, link.carrier is None))


class House:
    """Relays over a record, one room, and what reaches the transport process."""

    def __init__(self, record: object, budget_mib: int = 10) -> None:
        self.now = NOON
        self.sent: list[object] = []
        self.punished: list[NodeId] = []
        self.heard = Heard()
        size = budget_mib * MIB
        budget = RelayBudget(Budgets(size, 100 * MIB, 100 * MIB))
        self.relays = Relays(budget, record, self.sent.append, wall=lambda: self.now)
        self.room = self.relays.in_room(self.heard, lambda peer, _: self.punished.append(peer))

    def link(self, number: int = 1, peer: NodeId = ANN, relayed: bool = True, **said: int) -> Link:
        link = Link(number, ROOM, peer, relayed, {BULK_HELD: 1, **said}, self.sent.append, NOON)
        self.room.link_up(link)
        return link

    @property
    def told(self) -> list[messages.Message]:
        """The control messages that went to peers."""
        return [messages.decode(one.data) for one in self.sent if isinstance(one, SendControl)]


class Rows:
    """A record in memory that can fail."""

    def __init__(self) -> None:
        self.rows: list[Usage] = []
        self.full = False

    def add_relayed(self, passed: Usage) -> None:
        if self.full:
            raise LocalError("the disk is full")
        self.rows.append(passed)


@pytest.fixture
def house() -> House:
    return House(Rows())


def test_spent_relay_takes_the_lane_away_and_tells_the_peer(house):
    link = house.link()
    assert house.sent == [AllowBulk(1, 10 * MIB)]
    house.relays.transport_event(Relayed(1, 4 * MIB, 6 * MIB))
    assert link.carrier is None
    assert link.bulk_spent
    assert house.heard.changed == [(1, True)]
    assert house.told == [messages.BulkHeld(True)]
    # The transport process says the same a moment later.
    house.relays.transport_event(BulkHeld(1))
    assert house.heard.changed == [(1, True)]


def test_next_month_brings_the_lane_back(house):
    link = house.link()
    house.relays.transport_event(Relayed(1, 10 * MIB, 0))
    house.now += 10 * 24 * 3600.0
    house.relays.transport_event(Relayed(1, 10 * MIB + 300, 0))
    assert link.carrier is link.bulk
    assert house.told == [messages.BulkHeld(True), messages.BulkHeld(False)]
    assert AllowBulk(1, 20 * MIB) in house.sent
    assert house.heard.changed == [(1, True), (1, False)]


def test_word_of_the_peer_counts_until_it_takes_it_back(house):
    link = house.link(relayed=False)
    house.room.message(link, messages.BulkHeld(True))
    assert link.carrier is None
    house.room.message(link, messages.BulkHeld(True))
    house.room.message(link, messages.BulkHeld(False))
    assert link.carrier is link.bulk
    assert house.heard.changed == [(1, True), (1, False)]
    # What is the peer's own trouble is not told back to it.
    assert house.told == []


def test_older_peer_is_told_nothing_that_it_does_not_know(house):
    link = Link(1, ROOM, ANN, True, {}, house.sent.append, NOON)
    house.room.link_up(link)
    house.relays.transport_event(Relayed(1, 10 * MIB, 0))
    assert link.bulk_spent
    assert house.told == []


def test_budget_concerns_no_link_without_a_relay_until_it_moves_to_one():
    house = House(Rows(), budget_mib=0)
    link = house.link(relayed=False)
    assert (link.lane, link.bulk_spent, house.told) == (Lane.WEBRTC, False, [])
    house.relays.transport_event(PathChanged(1, True))
    assert (link.lane, link.bulk_spent) == (Lane.RELAY, True)
    assert house.told == [messages.BulkHeld(True)]
    house.relays.transport_event(PathChanged(1, False))
    assert (link.lane, link.bulk_spent) == (Lane.WEBRTC, False)
    assert house.told[-1] == messages.BulkHeld(False)
    assert house.heard.changed == [(1, True), (1, False)]


def test_peer_that_goes_on_over_a_spent_relay_is_banned(house):
    house.link()
    house.relays.transport_event(LinkClosed(1, "it sent a text on bulk", True))
    assert house.punished == []
    house.relays.transport_event(Relayed(1, 10 * MIB, 0))
    house.relays.transport_event(LinkClosed(1, "it goes on", True))
    assert house.punished == [ANN]


def test_fault_on_a_link_without_a_relay_has_nothing_to_do_with_budgets(house):
    house.link(1)
    house.link(2, relayed=False)
    house.relays.transport_event(Relayed(1, 10 * MIB, 0))
    house.relays.transport_event(LinkClosed(2, "it does not read its messages", True))
    assert house.punished == []


def test_last_count_of_a_link_that_is_gone_still_counts(house):
    link = house.link()
    house.relays.transport_event(Relayed(1, MIB, 0))
    house.room.link_down(link, "gone")
    house.relays.transport_event(Relayed(1, 3 * MIB, MIB))
    house.link(2)
    assert AllowBulk(2, 6 * MIB) in house.sent
    assert link.bulk_spent is False


def test_links_that_are_gone_are_remembered_up_to_a_bound(house):
    for number in range(1, RELAY_LINKS_REMEMBERED + 50):
        house.room.link_down(house.link(number, BOB), "gone")
    standing = house.link(10_000)
    for number in range(20_000, 20_000 + RELAY_LINKS_REMEMBERED):
        house.room.link_down(house.link(number, BOB), "gone")
    house.relays.transport_event(Relayed(10_000, 10 * MIB, 0))
    assert standing.bulk_spent


def test_links_that_stand_are_counted_however_many_there_are(house):
    first = house.link(1)
    for number in range(2, RELAY_LINKS_REMEMBERED + 50):
        house.link(number, BOB)
    house.relays.transport_event(Relayed(1, 10 * MIB, 0))
    assert first.bulk_spent


def test_counts_survive_a_restart(tmp_path):
    budgets = Budgets(10 * MIB, 100 * MIB, 100 * MIB)
    for start in range(3):
        state = State(tmp_path / "state.db")
        relays = Relays.load(budgets, state, lambda command: None)
        status = relays.status(lambda peer: "Ann")
        assert status["month_bytes"] == start * 3 * MIB
        room = relays.in_room(Heard(), lambda *_: None)
        room.link_up(Link(1, ROOM, ANN, True, {}, lambda command: None, NOON))
        relays.transport_event(Relayed(1, MIB, 2 * MIB))
        (row,) = relays.status(lambda peer: "Ann")["peers"]
        assert row == {
            "node_id": ANN.hex(),
            "name": "Ann",
            "month_bytes": (start + 1) * 3 * MIB,
            "left_bytes": (10 - (start + 1) * 3) * MIB,
            "relayed": True,
            "spent": False,
        }
        state.close()


def test_count_that_could_not_be_recorded_is_recorded_later(house, caplog):
    record = house.relays._record
    house.link()
    record.full = True
    house.relays.transport_event(Relayed(1, MIB, 0))
    house.relays.transport_event(Relayed(1, 2 * MIB, 0))
    assert caplog.text.count("kept in memory") == 1
    record.full = False
    house.relays.transport_event(Relayed(1, 2 * MIB, 5))
    assert record.rows == [Usage(day_of(NOON), ANN, 2 * MIB + 5)]
