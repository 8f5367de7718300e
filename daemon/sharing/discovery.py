"""Finds and links the members that hold a model, now and again while a pull goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from dreamer.daemon.links.link import Link
from dreamer.daemon.links.room_links import RoomLinks
from dreamer.protocol.ids import NodeId
from dreamer.protocol.limits import CROWD_GATHER_STEP_S, DISCOVERY_MAX_S, DISCOVERY_REPEAT_S

STEP_S = 0.05

Seek = Callable[[], Awaitable[list[NodeId]]]


@dataclass(frozen=True)
class Gathering:
    """Who is told what while a pull looks for others.

    ``named``: all that hold the model or pull it, whenever somebody was asked. ``ended``: once,
    after at least ``least_s``, in which others may begin the same pull, and which costs a pull
    from members nothing: it is the origin that waits.
    """

    settled: Callable[[], bool]
    named: Callable[[list[NodeId]], None]
    ended: Callable[[], None]
    least_s: float = 0.0


class Discovery:
    """Looks for the holders of one model in one room."""

    def __init__(self, links: RoomLinks, seek: Seek) -> None:
        self._links = links
        self._seek = seek

    async def meet(
        self,
        settled: Callable[[], bool] = lambda: True,
        named: Callable[[list[NodeId]], None] = lambda holders: None,
    ) -> list[Link]:
        """Link to every holder that can be linked; return those links.

        Waits until no link is coming up any more and ``settled`` holds, or ``DISCOVERY_MAX_S``.
        """
        holders = await self._call(named)
        deadline = asyncio.get_running_loop().time() + DISCOVERY_MAX_S
        while asyncio.get_running_loop().time() < deadline:
            if settled() and not any(self._links.connecting(holder) for holder in holders):
                break
            await asyncio.sleep(STEP_S)
        found = (self._links.link(holder) for holder in holders)
        return [link for link in found if link is not None]

    async def keep_meeting(self, gathering: Gathering) -> None:
        """Meet, say so once, and look again every ``DISCOVERY_REPEAT_S`` until cancelled."""
        loop = asyncio.get_running_loop()
        gathered_at = loop.time() + gathering.least_s
        await self.meet(gathering.settled, gathering.named)
        while loop.time() < gathered_at:
            await asyncio.sleep(CROWD_GATHER_STEP_S)
            await self.meet(gathering.settled, gathering.named)
        if gathering.least_s:
            # Links may have taken long, and whoever has come meanwhile must not be overlooked.
            await self._call(gathering.named)
        gathering.ended()
        while True:
            await asyncio.sleep(DISCOVERY_REPEAT_S)
            await self.meet(named=gathering.named)

    async def _call(self, named: Callable[[list[NodeId]], None]) -> list[NodeId]:
        """Ask who holds it, say so, and begin to link to them."""
        holders = await self._seek()
        named(holders)
        for holder in holders:
            self._links.connect(holder)
        return holders
