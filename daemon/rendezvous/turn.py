"""The TURN servers that one tracker lends this node: fetched after login, renewed, forgotten."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from typing import Protocol

from dreamer.protocol.errors import DreamerError
from dreamer.protocol.tracker_limits import (
    TRACKER_BACKOFF_BASE_S,
    TRACKER_BACKOFF_MAX_S,
    TURN_RENEW_AFTER,
)
from dreamer.protocol.turn import TurnCredentials

log = logging.getLogger(__name__)


class Jitter(Protocol):
    """The part of ``random.Random`` that spreads renewals over time."""

    def uniform(self, a: float, b: float) -> float:
        """Return a number between two others."""
        ...


class TurnLease:
    """What is lent now. ``ask`` fetches credentials, or None where the tracker has none."""

    def __init__(
        self,
        ask: Callable[[], Awaitable[TurnCredentials | None]],
        rng: Jitter,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        renewed: Callable[[], None] = lambda: None,
    ) -> None:
        """``renewed`` is called when other credentials are lent than before."""
        self._ask = ask
        self._renewed = renewed
        self._rng = rng
        self._clock = clock
        self._sleep = sleep
        self._lent: TurnCredentials | None = None
        self._ends = 0.0

    @property
    def servers(self) -> tuple[dict[str, str], ...]:
        """The servers for new links, as ``IceSettings`` has them; none after they expired."""
        # They may outlive the connection to the tracker: a link is worth most when it is away.
        if self._lent is None or self._clock() >= self._ends:
            return ()
        lent = self._lent
        return tuple(
            {"urls": uri, "username": lent.username, "credential": lent.password}
            for uri in lent.uris
        )

    async def keep(self) -> None:
        """Hold valid credentials while logged in; cancel it at the end of the session.

        Returns when the tracker has no TURN server.
        """
        failures = 0
        while True:
            try:
                # From before the question: the tracker counted from when it answered.
                asked_at = self._clock()
                lent = await self._ask()
            except DreamerError as error:
                failures += 1
                log.info("no TURN credentials: %s", error)
                await self._sleep(self._backoff_s(failures))
                continue
            failures = 0
            self._lent = lent
            if lent is None:
                return
            self._ends = asked_at + lent.ttl_s
            self._renewed()
            # Spread: the nodes that came with a tracker's restart shall not all come back at once.
            await self._sleep(lent.ttl_s * TURN_RENEW_AFTER * self._rng.uniform(0.8, 1.0))

    def _backoff_s(self, failures: int) -> float:
        pause_s = min(TRACKER_BACKOFF_MAX_S, TRACKER_BACKOFF_BASE_S * 2.0 ** min(failures, 16))
        return pause_s * self._rng.uniform(0.5, 1.0)
