"""Members that a tracker or a broken connection says are gone: asked, and given up if silent."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from dreamer.daemon.links import vanishing
from dreamer.daemon.links.link import Link, LinkListener
from dreamer.daemon.links.vanishing import Vanishing
from dreamer.daemon.room.presence import Presence
from dreamer.daemon.transport.vocabulary import SendControl, ToTransport
from dreamer.protocol.ids import NodeId, RoomId
from dreamer.protocol.link.messages import Ping, decode

PEER = NodeId(b"p" * 32)


class Awaiting(LinkListener):
    """A listener that waits for something, or not."""

    def __init__(self, *, waits: bool) -> None:
        self.waits = waits

    def waits_on(self, link: Link) -> bool:
        return self.waits


class Links:
    """A link, and what becomes of it."""

    def __init__(self) -> None:
        self.sent: list[ToTransport] = []
        self.dropped = asyncio.Event()
        self.connected: list[NodeId] = []
        self.standing: Link | None = Link(
            1, RoomId(bytes(32)), PEER, False, {}, self.sent.append, 5.0
        )

    def link(self, peer: NodeId) -> Link | None:
        return self.standing if peer == PEER else None

    def drop(self, peer: NodeId, reason: str) -> None:
        self.standing = None
        self.dropped.set()

    def connect(self, peer: NodeId) -> None:
        self.connected.append(peer)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(vanishing, "LINK_VANISHED_S", 0.02)
    monkeypatch.setattr(vanishing, "LINK_VANISHED_IDLE_S", 0.06)
    monkeypatch.setattr(vanishing, "_LOOK_S", 0.01)


class Room:
    """A member at two trackers, linked, and what looks whether it is there."""

    def __init__(self, *, waits: bool = True) -> None:
        self.links: Any = Links()
        self.reachable = True
        self.clock = 10.0
        self.vanishing = Vanishing(
            self.links, Awaiting(waits=waits), lambda: self.reachable, lambda: self.clock
        )
        self.presence = Presence()
        self.presence.vanished = self.vanishing.told
        self.presence.arrived("one", PEER, {})
        self.presence.arrived("other", PEER, {})

    async def settled(self) -> None:
        """Wait until nothing is asked of the member any more."""
        async with asyncio.timeout(5):
            while self.vanishing._questions:
                await asyncio.sleep(0)


def told_gone(*, waits: bool = True) -> Room:
    """Return a room whose trackers have both said that the member is gone."""
    room = Room(waits=waits)
    room.presence.left("one", PEER)
    assert not room.links.sent
    room.presence.left("other", PEER)
    return room


async def test_member_that_is_gone_is_given_up_soon() -> None:
    links = told_gone().links
    (asked,) = links.sent
    assert isinstance(asked, SendControl)
    assert isinstance(decode(asked.data), Ping)
    async with asyncio.timeout(5):
        await links.dropped.wait()
    assert links.connected == [PEER]


async def test_tracker_that_lies_parts_nobody() -> None:
    room = told_gone()
    room.links.standing.heard_at = 10.01
    await room.settled()
    assert not room.links.dropped.is_set()


async def test_lost_trackers_put_no_link_in_doubt() -> None:
    room = Room()
    room.presence.lost("one")
    room.presence.lost("other")
    assert not room.links.sent
    assert not room.vanishing._questions


async def test_link_is_kept_while_no_tracker_could_bring_it_back() -> None:
    # A tracker that stops parts its members one by one before it is gone itself.
    room = told_gone()
    room.reachable = False
    await room.settled()
    assert not room.links.dropped.is_set()


async def test_several_doubts_are_one_question() -> None:
    room = told_gone()
    room.vanishing.link_doubted(room.links.standing)
    room.vanishing.told(PEER)
    assert len(room.links.sent) == 1
    async with asyncio.timeout(5):
        await room.links.dropped.wait()
    assert room.links.connected == [PEER]
    assert not room.vanishing._questions


async def test_doubt_after_an_answer_is_a_new_question() -> None:
    room = told_gone()
    room.links.standing.heard_at = room.clock = 10.01
    room.vanishing.told(PEER)
    assert len(room.links.sent) == 2
    async with asyncio.timeout(5):
        await room.links.dropped.wait()


async def test_member_of_which_nothing_is_awaited_has_more_time() -> None:
    room = Room(waits=False)
    room.vanishing._questions[1] = vanishing._Question(10.0, 0.03)
    room.vanishing._look(room.links.standing)
    assert not room.links.dropped.is_set()
    async with asyncio.timeout(5):
        await room.links.dropped.wait()
    # Nobody wants it back.
    assert room.links.connected == []


async def test_link_that_was_replaced_meanwhile_is_left_alone() -> None:
    room = told_gone()
    room.links.standing = Link(2, RoomId(bytes(32)), PEER, False, {}, room.links.sent.append, 5.0)
    await room.settled()
    assert not room.links.dropped.is_set()
