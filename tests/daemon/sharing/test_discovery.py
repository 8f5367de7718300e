"""Who a pull is told of before it turns to the origin, however long links take to come up."""

from __future__ import annotations

import asyncio

from dreamer.daemon.sharing.discovery import Discovery, Gathering
from dreamer.protocol.ids import NodeId

PATIENCE_S = 10.0
EARLY, LATE = NodeId(b"e" * 32), NodeId(b"l" * 32)


class SlowLinks:
    """Links that come up when a test says so."""

    def __init__(self) -> None:
        self.called: list[NodeId] = []
        self.up = asyncio.Event()

    def connect(self, peer: NodeId) -> None:
        self.called.append(peer)

    def connecting(self, peer: NodeId) -> bool:
        return not self.up.is_set()

    def link(self, peer: NodeId) -> None:
        """None stands."""


async def told_before_the_end(least_s: float) -> tuple[list[list[NodeId]], SlowLinks]:
    """Return who was named until a discovery ended, during which one more began to pull."""
    links, holders = SlowLinks(), [EARLY]
    named: list[list[NodeId]] = []
    ended: asyncio.Future[list[list[NodeId]]] = asyncio.get_running_loop().create_future()

    async def seek() -> list[NodeId]:
        return list(holders)

    def name(found: list[NodeId]) -> None:
        named.append(found)
        if LATE not in holders:
            holders.append(LATE)
            asyncio.get_running_loop().call_soon(links.up.set)

    gathering = Gathering(lambda: True, name, lambda: ended.set_result(named[:]), least_s)
    meeting = asyncio.ensure_future(Discovery(links, seek).keep_meeting(gathering))  # type: ignore[arg-type]
    try:
        async with asyncio.timeout(PATIENCE_S):
            return await ended, links
    finally:
        meeting.cancel()
        await asyncio.gather(meeting, return_exceptions=True)


async def test_who_begins_while_links_come_up_is_known_before_the_origin_is_asked() -> None:
    # A moment that is over as soon as the first links are up.
    named, links = await told_before_the_end(least_s=0.001)
    assert named[0] == [EARLY]
    assert named[-1] == [EARLY, LATE]
    assert LATE in links.called


async def test_nobody_is_asked_twice_where_there_is_no_origin_that_waits() -> None:
    named, _ = await told_before_the_end(least_s=0.0)
    assert named == [[EARLY]]
