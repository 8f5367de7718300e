"""Finds and links the members that hold a model, now and again while a pull goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from dreamer.daemon.links.link import Link
from dreamer.daemon.links.room_links import RoomLinks
from dreamer.protocol.ids import NodeId
from dreamer.protocol.limits import DISCOVERY_MAX_S, DISCOVERY_REPEAT_S

STEP_S = 0.05

Seek = Callable[[], Awaitable[list[NodeId]]]


class Discovery:
    """Looks for the holders of one model in one room."""

    def __init__(self, links: RoomLinks, seek: Seek) -> None:
        self._links = links
        self._seek = seek

    async def meet(self, settled: Callable[[], bool] = lambda: True) -> list[Link]:
        """Link to every holder that can be linked; return those links.

        Waits until no link is coming up any more and ``settled`` holds, or ``DISCOVERY_MAX_S``.
        """
        holders = await self._seek()
        for holder in holders:
            self._links.connect(holder)
        deadline = asyncio.get_running_loop().time() + DISCOVERY_MAX_S
        while asyncio.get_running_loop().time() < deadline:
            if settled() and not any(self._links.connecting(holder) for holder in holders):
                break
            await asyncio.sleep(STEP_S)
        found = (self._links.link(holder) for holder in holders)
        return [link for link in found if link is not None]

    async def keep_meeting(
        self, settled: Callable[[], bool], ended_once: Callable[[], None]
    ) -> None:
        """Meet, say so once, and look again every ``DISCOVERY_REPEAT_S`` until cancelled."""
        await self.meet(settled)
        ended_once()
        while True:
            await asyncio.sleep(DISCOVERY_REPEAT_S)
            await self.meet()
