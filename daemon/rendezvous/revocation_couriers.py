"""Bringing a tracker the revocations that it missed: it was away, or their maker never reached it.

A tracker repeats at login all that it has. What this node knows and the tracker didn't name, it
sends: a revocation is signed, so any member may. A room's nodes would all do so at the same moment,
so each first waits a time of chance length; whatever another one was quicker with is told to all,
and needn't be sent any more.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from random import Random

from dreamer.daemon.rendezvous.session import TrackerSession
from dreamer.daemon.tasks import TaskSet
from dreamer.protocol.errors import RemoteError
from dreamer.protocol.limits import (
    REVOCATION_OFFERS_MAX,
    REVOCATIONS_PASSED_ON_MAX,
    REVOCATIONS_PASSED_ON_PER_S,
    REVOCATIONS_SETTLE_S,
)
from dreamer.protocol.rooms.revocations import Revocation

log = logging.getLogger(__name__)


class RevocationCourier:
    """Keeps one tracker's list as long as this node's; ``known`` returns what is to be there."""

    def __init__(
        self,
        session: TrackerSession,
        known: Callable[[], list[Revocation]],
        rng: Random,
        tasks: TaskSet,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._session = session
        self._known = known
        self._rng = rng
        self._tasks = tasks
        self._sleep = sleep
        self._there: dict[bytes, None] = {}
        # How often each was offered while this node ran: one that a tracker refuses, it refuses
        # again, and for too much that is refused it would end the session.
        self._offers: dict[bytes, int] = {}
        self._left = 0
        self._under_way: asyncio.Task[None] | None = None

    def arrived(self) -> None:
        """Begin anew: the tracker has let this node in, and will name what it has."""
        self.left()
        self._there = {}
        self._left = REVOCATIONS_PASSED_ON_MAX
        self.compare()

    def left(self) -> None:
        """Stop: the tracker is away."""
        if self._under_way is not None:
            self._under_way.cancel()
            self._under_way = None

    def heard(self, revocation: Revocation) -> None:
        """Note that the tracker has one."""
        self._there[revocation.signature] = None

    def compare(self) -> None:
        """Bring the tracker what it lacks, in a while; unless that is being done already."""
        busy = self._under_way is not None and not self._under_way.done()
        if self._session.connected and not busy and self._next() is not None:
            self._under_way = self._tasks.start(self._bring())

    def _next(self) -> Revocation | None:
        """Return the first that is missing there, of those that were offered least."""
        missing = [
            one
            for one in self._known()
            if one.signature not in self._there
            and self._offers.get(one.signature, 0) < REVOCATION_OFFERS_MAX
        ]
        if not missing or not self._left:
            return None
        return min(missing, key=lambda one: self._offers.get(one.signature, 0))

    async def _bring(self) -> None:
        await self._sleep(REVOCATIONS_SETTLE_S * self._rng.uniform(0.5, 2.0))
        offered: dict[bytes, None] = {}
        while (one := self._next()) is not None and one.signature not in offered:
            offered[one.signature] = None
            self._offers[one.signature] = self._offers.get(one.signature, 0) + 1
            self._left -= 1
            try:
                await self._session.revoke(one)
            except RemoteError:
                return
            log.info("passed a revocation on to %s", self._session.url)
            await self._sleep(1 / REVOCATIONS_PASSED_ON_PER_S)
