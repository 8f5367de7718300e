"""Members that a tracker or a broken connection says are gone: asked, and given up if silent."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
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


def told_gone(monkeypatch: pytest.MonkeyPatch, *, waits: bool = True) -> Links:
    """Return links to a member of which its tracker says that it is gone."""
    monkeypatch.setattr(vanishing, "LINK_VANISHED_S", 0.02)
    monkeypatch.setattr(vanishing, "LINK_VANISHED_IDLE_S", 0.06)
    monkeypatch.setattr(vanishing, "_LOOK_S", 0.01)
    links: Any = Links()
    presence = Presence()
    presence.vanished = Vanishing(links, Awaiting(waits=waits), lambda: 10.0).told
    presence.arrived("one", PEER, {})
    presence.arrived("other", PEER, {})
    presence.left("one", PEER)
    assert not links.sent
    presence.left("other", PEER)
    return links


async def test_member_that_is_gone_is_given_up_soon(monkeypatch: pytest.MonkeyPatch) -> None:
    links = told_gone(monkeypatch)
    (asked,) = links.sent
    assert isinstance(asked, SendControl)
    assert isinstance(decode(asked.data), Ping)
    async with asyncio.timeout(5):
        await links.dropped.wait()
    assert links.connected == [PEER]


async def test_tracker_that_lies_parts_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    links = told_gone(monkeypatch)
    assert links.standing is not None
    links.standing.heard_at = 10.01
    settled = asyncio.Event()
    asyncio.get_running_loop().call_later(0.05, settled.set)
    await settled.wait()
    assert not links.dropped.is_set()


async def test_member_of_which_nothing_is_awaited_has_more_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    links = told_gone(monkeypatch, waits=False)
    vanished: Any = Vanishing(links, Awaiting(waits=False), lambda: 10.0)  # type: ignore[arg-type]
    vanished._look(links.standing, 10.0, 0.03)
    assert not links.dropped.is_set()
    async with asyncio.timeout(5):
        await links.dropped.wait()
    # Nobody wants it back.
    assert links.connected == []


async def test_link_that_was_replaced_meanwhile_is_left_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    links = told_gone(monkeypatch)
    assert links.standing is not None
    old, links.standing = (
        links.standing,
        Link(2, RoomId(bytes(32)), PEER, False, {}, links.sent.append, 5.0),
    )
    Vanishing(SimpleNamespace(link=links.link, drop=links.drop), Awaiting(waits=True))._look(
        old, 10.0, 99.0
    )
    assert not links.dropped.is_set()
