"""The rounds of the bench: a fresh crowd each, warmed up, then measured for some seconds."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from dreamer.simulations.bench.tracker_load import usage
from dreamer.simulations.bench.tracker_load.books import Books, Latency
from dreamer.simulations.bench.tracker_load.crowd import Crowd
from dreamer.simulations.bench.tracker_load.drive import (
    ClosedLoop,
    Load,
    OpenLoop,
    everyone_joins,
    settle,
)
from dreamer.simulations.bench.tracker_load.servers import Server

JOINING_AT_ONCE = 64


@dataclass(frozen=True)
class Shape:
    """How large a round is. ``rate`` (announces a second) or, if 0, ``window`` (on their way)."""

    sockets: int
    per_swarm: int
    seconds: float
    warm_up_s: float
    window: int = 0
    rate: float = 0.0
    seed: int = 1


@dataclass(frozen=True)
class Round:
    """What one round measured; ``books`` are of the whole of it, the rest of ``seconds``."""

    tracker: str
    sockets: int
    seconds: float
    announces_per_s: float
    offers_per_s: float
    latency: Latency
    server_cpu: usage.Cpu
    generator_cpu: usage.Cpu
    announces_per_cpu_s: float
    server_memory: usage.Memory
    balanced: bool
    books: Books


@asynccontextmanager
async def gathered(server: Server, shape: Shape) -> AsyncIterator[Crowd]:
    """Connect a crowd and have it join its swarms."""
    crowd = Crowd(server.address, shape.sockets, shape.per_swarm, shape.seed)
    try:
        await crowd.connect()
        await everyone_joins(crowd, JOINING_AT_ONCE)
        yield crowd
    finally:
        crowd.close()
        # Lets the loop see the sockets closed before it ends.
        await asyncio.sleep(0)


async def measure(server: Server, shape: Shape) -> Round:
    """Run one round."""
    async with gathered(server, shape) as crowd:
        load: Load
        if shape.rate:
            load = OpenLoop(crowd, shape.rate, shape.seed)
        else:
            load = ClosedLoop(crowd, shape.window, shape.seed)
        load.start()
        await asyncio.sleep(shape.warm_up_s)
        meter = Meter(server, crowd)
        await asyncio.sleep(shape.seconds)
        measured = meter.read()
        await load.stop()
        await settle(crowd)
        return measured.round(server, crowd)


class Meter:
    """Notes where everything stands when it is made."""

    def __init__(self, server: Server, crowd: Crowd) -> None:
        self._server = server
        self._crowd = crowd
        self._server_cpu = _cpu(server.pid)
        self._own_cpu = usage.own_cpu()
        self._books = crowd.books.copy()
        crowd.latencies_s = []
        self._at = time.perf_counter()

    def read(self) -> Reading:
        """Return what has happened since."""
        seconds = time.perf_counter() - self._at
        return Reading(
            seconds,
            self._crowd.books.since(self._books),
            self._crowd.latencies_s,
            _cpu(self._server.pid).since(self._server_cpu),
            usage.own_cpu().since(self._own_cpu),
            _memory(self._server.pid),
        )


@dataclass(frozen=True)
class Reading:
    """The difference between two looks at the meter."""

    seconds: float
    books: Books
    latencies_s: list[float]
    server_cpu: usage.Cpu
    generator_cpu: usage.Cpu
    memory: usage.Memory

    def round(self, server: Server, crowd: Crowd) -> Round:
        """Return the round's figures, once all that was on its way has arrived."""
        replies = self.books.replies
        return Round(
            server.name,
            len(crowd.clients),
            self.seconds,
            replies / self.seconds,
            self.books.offers / self.seconds,
            Latency.of(self.latencies_s),
            self.server_cpu,
            self.generator_cpu,
            replies / self.server_cpu.total_s if self.server_cpu.total_s else 0.0,
            self.memory,
            crowd.books.balanced,
            crowd.books.copy(),
        )


@dataclass(frozen=True)
class Footprint:
    """Memory of a tracker: alone, with sockets open, with peers joined, after all have announced
    with offers and answered, after a burst of announces, and some seconds later."""

    tracker: str
    sockets: int
    alone: usage.Memory
    connected: usage.Memory
    joined: usage.Memory
    announced: usage.Memory
    burst: usage.Memory
    rested: usage.Memory
    balanced: bool

    @property
    def mib_per_thousand(self) -> float:
        """Resident MiB of 1,000 peers, once each has announced with offers and answered some."""
        return self._of_thousand(self.announced)

    @property
    def mib_per_thousand_rested(self) -> float:
        """The same some seconds after a burst."""
        return self._of_thousand(self.rested)

    def _of_thousand(self, when: usage.Memory) -> float:
        return (when.rss_mib - self.alone.rss_mib) * 1000 / self.sockets


async def footprint(server: Server, shape: Shape) -> Footprint:
    """Measure memory: ``shape.sockets`` peers announce once, then in a burst for ``seconds``."""
    alone = _memory(server.pid)
    crowd = Crowd(server.address, shape.sockets, shape.per_swarm, shape.seed)
    try:
        await crowd.connect()
        connected = _memory(server.pid)
        await everyone_joins(crowd, JOINING_AT_ONCE)
        joined = _memory(server.pid)
        await _everyone_announces(crowd, shape.window)
        announced = _memory(server.pid)
        load = ClosedLoop(crowd, shape.window, shape.seed)
        load.start()
        await asyncio.sleep(shape.seconds)
        await load.stop()
        await settle(crowd)
        burst = _memory(server.pid)
        await asyncio.sleep(shape.warm_up_s)
        rested = _memory(server.pid)
        return Footprint(
            server.name,
            shape.sockets,
            alone,
            connected,
            joined,
            announced,
            burst,
            rested,
            crowd.books.balanced,
        )
    finally:
        crowd.close()


async def _everyone_announces(crowd: Crowd, window: int) -> None:
    for start in range(0, len(crowd.clients), window):
        for client in crowd.clients[start : start + window]:
            crowd.announce(client)
        await settle(crowd)


def _cpu(pid: int | None) -> usage.Cpu:
    return usage.cpu(pid) if pid is not None else usage.Cpu(0.0, 0.0)


def _memory(pid: int | None) -> usage.Memory:
    return usage.memory(pid) if pid is not None else usage.Memory(0.0, 0.0)
