"""What one bad client costs the others: the same crowd alone and beside it, in turns."""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from dreamer.simulations.bench.tracker_load.books import Latency
from dreamer.simulations.bench.tracker_load.crowd import Crowd
from dreamer.simulations.bench.tracker_load.drive import OpenLoop
from dreamer.simulations.bench.tracker_load.neighbour import Kind
from dreamer.simulations.bench.tracker_load.rounds import Shape, gathered
from dreamer.simulations.bench.tracker_load.servers import Server
from dreamer.simulations.loopback import Process

RECOVERY_S = 1.0


@dataclass(frozen=True)
class Turn:
    """Latency of the well-behaved: alone, then beside the bad one."""

    alone: Latency
    beside: Latency


@dataclass(frozen=True)
class Beside:
    """The turns with one kind of bad neighbour; ratios are medians of each turn's own."""

    tracker: str
    kind: str
    turns: list[Turn]

    @property
    def p50_ratio(self) -> float:
        """How many times the median latency is what it is alone."""
        return statistics.median(_ratio(t.beside.p50_ms, t.alone.p50_ms) for t in self.turns)

    @property
    def p99_ratio(self) -> float:
        """How many times the 99th percentile is what it is alone."""
        return statistics.median(_ratio(t.beside.p99_ms, t.alone.p99_ms) for t in self.turns)


async def beside(server: Server, shape: Shape, kind: Kind, turns: int) -> Beside:
    """Measure ``turns`` times ``shape.seconds`` alone and as long beside, at ``shape.rate``."""
    async with gathered(server, shape) as crowd:
        load = OpenLoop(crowd, shape.rate, shape.seed)
        load.start()
        await asyncio.sleep(shape.warm_up_s)
        measured = [await _turn(server, crowd, shape, kind) for _ in range(turns)]
        await load.stop()
    return Beside(server.name, kind.value, measured)


async def _turn(server: Server, crowd: Crowd, shape: Shape, kind: Kind) -> Turn:
    alone = await _latency(crowd, shape.seconds)
    swarm = json.dumps(crowd.info_hashes[0])
    argv = [sys.executable, "-m", "dreamer.simulations.bench.tracker_load.neighbour"]
    with tempfile.TemporaryDirectory(prefix="dreamer-bench-") as scratch:
        process = Process([*argv, kind.value, server.address.url, swarm], Path(scratch) / "log")
        try:
            await asyncio.to_thread(process.start, "ready")
            near = await _latency(crowd, shape.seconds)
        finally:
            process.kill()
    await asyncio.sleep(RECOVERY_S)
    return Turn(alone, near)


async def _latency(crowd: Crowd, seconds: float) -> Latency:
    crowd.latencies_s = []
    await asyncio.sleep(seconds)
    return Latency.of(crowd.latencies_s)


def _ratio(one: float, other: float) -> float:
    return one / other if other else 0.0
