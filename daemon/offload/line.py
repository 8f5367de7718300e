"""The line before a peer: it runs so many requests of ours at once, and further ones wait here."""

from __future__ import annotations

import asyncio

from dreamer.daemon.links.link import Link
from dreamer.protocol.errors import BusyError, RemoteError
from dreamer.protocol.ids import short
from dreamer.protocol.offload_limits import OFFLOAD_LINE_MAX, OFFLOAD_REQUESTS_MAX_PER_LINK


class Line:
    """The requests of this node at one peer, those under way and those that wait to be sent."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._turns = asyncio.Semaphore(OFFLOAD_REQUESTS_MAX_PER_LINK)
        self._lost = ""
        self.length = 0
        """How many there are."""

    async def enter(self) -> None:
        """Wait until the peer takes one more, in the order of asking; ``leave`` when that is over.

        Raises:
            BusyError: as many wait as may.
            RemoteError: the link was lost meanwhile.
        """
        if self.length >= OFFLOAD_REQUESTS_MAX_PER_LINK + OFFLOAD_LINE_MAX:
            raise BusyError(
                f"{OFFLOAD_LINE_MAX} requests wait for {short(self._link.peer)}: ask again later"
            )
        self.length += 1
        try:
            await self._turns.acquire()
        except BaseException:
            self.length -= 1
            raise
        if self._lost:
            self.leave()
            raise RemoteError(f"lost the link to {short(self._link.peer)}: {self._lost}")

    def leave(self) -> None:
        """Let the next one have its turn."""
        self.length -= 1
        self._turns.release()

    def lose(self, reason: str) -> None:
        """Fail those that wait, each as its turn comes; those under way hear of it themselves."""
        self._lost = reason or "it ended"
