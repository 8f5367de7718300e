"""Rounds of a graph of tensors: through a node's ``/v2``, and by ``session.run`` alone, in turn."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from dreamer.daemon.client import Dreamer
from dreamer.simulations.bench.serving.contender import Contender
from dreamer.simulations.bench.serving.rounds import Server
from dreamer.simulations.bench.serving.tensor_client import TensorClient

TENSOR_RUNS = 40


@dataclass(frozen=True)
class TensorRound:
    """Medians of a round's requests, in seconds; processor time is of one request.

    ``computed_s`` is what the node's worker says that its own ``session.run`` took.
    """

    bare_s: float
    api_s: float
    computed_s: float
    daemon_cpu_s: float
    worker_cpu_s: float
    client_cpu_s: float


def tensors(
    server: Server, model: str, bare: Contender, shape: list[int], count: int
) -> list[TensorRound]:
    """Return ``count`` rounds, after one that warms up."""
    values = b"\0\0\x80?" * math.prod(shape)  # ones
    client = TensorClient(server.path, model, values, shape)
    client.ask()
    workers = _workers(server)
    rounds = [_round(server, workers, client, bare, shape) for _ in range(count + 1)]
    client.close()
    return rounds[1:]


def _workers(server: Server) -> list[int]:
    report = Dreamer(server.node.home).inference.report()
    return [worker.pid for one in report.models for worker in one.workers]


def _round(
    server: Server, workers: Sequence[int], client: TensorClient, bare: Contender, shape: list[int]
) -> TensorRound:
    daemon = server.node.process.pid
    meters: tuple[Callable[[], float], ...] = (
        lambda: threads_cpu_seconds(daemon),
        lambda: sum(threads_cpu_seconds(pid) for pid in workers),
        time.process_time,
    )
    before = [meter() for meter in meters]
    times, computed = [], []
    for _ in range(TENSOR_RUNS):
        begun = time.perf_counter()
        computed.append(client.ask())
        times.append(time.perf_counter() - begun)
    spent = [(meter() - early) / TENSOR_RUNS for meter, early in zip(meters, before, strict=True)]
    theirs = bare.ask(shape=shape, runs=TENSOR_RUNS)["times"]
    median = statistics.median
    return TensorRound(median(theirs), median(times), median(computed), *spent)


def threads_cpu_seconds(pid: int) -> float:
    """Return a process's processor time to the nanosecond; its threads that ended don't count.

    ``/proc/PID/stat`` counts in steps of 10 ms, more than a round's requests take.
    """
    spent_ns = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        spent_ns += int((task / "schedstat").read_text().split()[0])
    return spent_ns / 1e9
