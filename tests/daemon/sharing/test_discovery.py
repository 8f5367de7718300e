"""Who a pull is told of before it turns to the origin, however long links take to come up."""

from __future__ import annotations

import asyncio
from random import Random

from dreamer.daemon.sharing.discovery import Discovery, Onlooker
from dreamer.protocol.ids import NodeId
from dreamer.protocol.swarm.gathering import Named
from dreamer.protocol.swarm.holders import Found

PATIENCE_S = 10.0
EARLY, LATE, US = NodeId(b"e" * 32), NodeId(b"l" * 32), NodeId(b"u" * 32)


class SlowLinks:
    """Links that come up when a test says so."""

    own = US

    def __init__(self) -> None:
        self.rng = Random(1)
        self.called: list[NodeId] = []
        self.links: list[object] = []
        self.up = asyncio.Event()

    def connect(self, peer: NodeId) -> None:
        self.called.append(peer)

    @property
    def coming_up(self) -> list[NodeId]:
        return [] if self.up.is_set() else self.called

    def link(self, peer: NodeId) -> None:
        """None stands."""


async def told_before_the_end(least_s: float) -> tuple[list[tuple[NodeId, ...]], SlowLinks]:
    """Return who was named until a discovery ended, during which one more began to pull."""
    links, holders = SlowLinks(), [EARLY]
    named: list[tuple[NodeId, ...]] = []
    ended: asyncio.Future[list[tuple[NodeId, ...]]] = asyncio.get_running_loop().create_future()

    async def seek() -> Found:
        return Found(tuple(holders))

    def name(found: Named) -> None:
        named.append(found.nodes)
        if LATE not in holders:
            holders.append(LATE)
            asyncio.get_running_loop().call_soon(links.up.set)

    onlooker = Onlooker(named=name, ended=lambda: ended.set_result(named[:]), least_s=least_s)
    meeting = asyncio.ensure_future(Discovery(links, seek).keep_meeting(onlooker))
    try:
        async with asyncio.timeout(PATIENCE_S):
            return await ended, links
    finally:
        meeting.cancel()
        await asyncio.gather(meeting, return_exceptions=True)


async def test_who_begins_while_links_come_up_is_known_before_the_origin_is_asked() -> None:
    # A moment that is over as soon as the first links are up.
    named, links = await told_before_the_end(least_s=0.001)
    assert named[0] == (EARLY,)
    assert named[-1] == (EARLY, LATE)
    assert LATE in links.called


async def test_nobody_is_asked_twice_where_there_is_no_origin_that_waits() -> None:
    named, _ = await told_before_the_end(least_s=0.0)
    assert named == [(EARLY,)]


async def test_a_tracker_that_never_answers_does_not_hold_up_what_is_cancelled() -> None:
    async def hang() -> Found:
        await asyncio.Event().wait()
        raise AssertionError

    meeting = asyncio.ensure_future(Discovery(SlowLinks(), hang).meet())
    await asyncio.sleep(0)
    meeting.cancel()
    async with asyncio.timeout(PATIENCE_S):
        await asyncio.wait([meeting])
    assert meeting.cancelled()
    assert asyncio.all_tasks() == {asyncio.current_task()}
