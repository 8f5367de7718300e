"""Two ways to drive a crowd: as fast as the tracker answers, or at a rate of one's own."""

from __future__ import annotations

import asyncio
import itertools
import time
from abc import ABC, abstractmethod
from random import Random

from dreamer.simulations.bench.tracker_load.books import Books
from dreamer.simulations.bench.tracker_load.client import ConnectError
from dreamer.simulations.bench.tracker_load.crowd import Crowd

TICK_S = 0.001
POLL_S = 0.01
# An announce that hasn't come full circle by then is taken for lost, so that it doesn't narrow
# the window for ever.
LOST_AFTER_S = 5.0


async def settle(crowd: Crowd) -> None:
    """Wait until everything that is due has arrived, or nothing has for ``LOST_AFTER_S``."""
    seen, at = crowd.books.copy(), time.perf_counter()
    while not crowd.quiet and time.perf_counter() - at < LOST_AFTER_S:
        await asyncio.sleep(POLL_S)
        if crowd.books != seen:
            seen, at = crowd.books.copy(), time.perf_counter()


async def everyone_joins(crowd: Crowd, window: int) -> None:
    """Have each client announce once without offers, ``window`` at a time."""
    for start in range(0, len(crowd.clients), window):
        for client in crowd.clients[start : start + window]:
            crowd.join(client)
        await settle(crowd)


class Load(ABC):
    """Something that keeps a crowd announcing from ``start`` to ``stop``."""

    def __init__(self, crowd: Crowd, seed: int) -> None:
        self._crowd = crowd
        # Each in turn, so that nobody announces more often than others.
        order = list(crowd.clients)
        Random(seed).shuffle(order)
        self._next = itertools.cycle(order)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin."""
        self._task = asyncio.create_task(self._run())

    async def stop(self) -> None:
        """Announce no more."""
        assert self._task is not None, "not started"
        self._task.cancel()
        await asyncio.wait([self._task])
        self._crowd.on_done = None
        if not self._task.cancelled():
            self._task.result()

    def _one(self) -> None:
        for _ in self._crowd.clients:
            client = next(self._next)
            if not client.lost:
                self._crowd.announce(client)
                return
        raise ConnectError("the tracker has hung up on every client")

    @abstractmethod
    async def _run(self) -> None: ...


class ClosedLoop(Load):
    """Keeps ``window`` announces on their way: a new one for each that has come full circle."""

    def __init__(self, crowd: Crowd, window: int, seed: int) -> None:
        super().__init__(crowd, seed)
        self._window = window

    async def _run(self) -> None:
        self._crowd.on_done = self._one
        for _ in range(self._window):
            self._one()
        before = Books()
        while True:
            await asyncio.sleep(LOST_AFTER_S)
            if self._crowd.books.done == before.done:
                for _ in range(self._window):
                    self._one()
            before = self._crowd.books.copy()


class OpenLoop(Load):
    """Announces ``rate`` times a second, whatever the tracker does."""

    def __init__(self, crowd: Crowd, rate: float, seed: int) -> None:
        super().__init__(crowd, seed)
        self._rate = rate

    async def _run(self) -> None:
        begun, sent = time.perf_counter(), 0
        while True:
            due = (time.perf_counter() - begun) * self._rate
            while sent < due:
                self._one()
                sent += 1
            await asyncio.sleep(TICK_S)
