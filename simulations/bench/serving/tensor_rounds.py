"""Rounds of a graph of tensors: through a node's ``/v2``, and by ``session.run`` alone, in turn."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from dreamer.daemon.client import Dreamer
from dreamer.simulations.bench.serving.contender import Contender
from dreamer.simulations.bench.serving.rounds import Server
from dreamer.simulations.bench.serving.tensor_client import TensorClient

TENSOR_RUNS = 40
IN_FLIGHT = 2


@dataclass(frozen=True)
class TensorRound:
    """Medians of a round's requests, in seconds; processor time is of one request.

    ``computed_s`` is what the node's worker says that its own ``session.run`` took. The two at the
    end are of one request where ``IN_FLIGHT`` are always under way: the time of all over how many.
    """

    bare_s: float
    api_s: float
    computed_s: float
    daemon_cpu_s: float
    worker_cpu_s: float
    client_cpu_s: float
    bare_together_s: float
    api_together_s: float


def tensors(
    server: Server, model: str, bare: Contender, shape: list[int], count: int
) -> list[TensorRound]:
    """Return ``count`` rounds, after one that warms up."""
    values = b"\0\0\x80?" * math.prod(shape)  # ones
    clients = [TensorClient(server.path, model, values, shape) for _ in range(IN_FLIGHT)]
    clients[0].ask()
    workers = _workers(server)
    rounds = [_round(server, workers, clients, bare, shape) for _ in range(count + 1)]
    for client in clients:
        client.close()
    return rounds[1:]


def _workers(server: Server) -> list[int]:
    report = Dreamer(server.node.home).inference.report()
    return [worker.pid for one in report.models for worker in one.workers]


def _round(
    server: Server,
    workers: Sequence[int],
    clients: Sequence[TensorClient],
    bare: Contender,
    shape: list[int],
) -> TensorRound:
    client = clients[0]
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
    daemon_s, worker_s, client_s = (
        (meter() - early) / TENSOR_RUNS for meter, early in zip(meters, before, strict=True)
    )
    theirs = bare.ask(shape=shape, runs=TENSOR_RUNS)["times"]
    together_s = _together(clients) / TENSOR_RUNS
    runs = TENSOR_RUNS // IN_FLIGHT
    theirs_s = bare.ask(shape=shape, runs=runs, callers=IN_FLIGHT)["seconds"] / TENSOR_RUNS
    median = statistics.median
    one_by_one = median(theirs), median(times), median(computed)
    return TensorRound(*one_by_one, daemon_s, worker_s, client_s, theirs_s, together_s)


def _together(clients: Sequence[TensorClient]) -> float:
    """Return how long ``TENSOR_RUNS`` requests take, of which each client has one under way."""

    def ask(client: TensorClient) -> None:
        for _ in range(TENSOR_RUNS // len(clients)):
            client.ask()

    with ThreadPoolExecutor(len(clients)) as pool:
        begun = time.perf_counter()
        list(pool.map(ask, clients))
        return time.perf_counter() - begun


def threads_cpu_seconds(pid: int) -> float:
    """Return a process's processor time to the nanosecond; its threads that ended don't count.

    ``/proc/PID/stat`` counts in steps of 10 ms, more than a round's requests take.
    """
    spent_ns = 0
    for task in Path(f"/proc/{pid}/task").iterdir():
        spent_ns += int((task / "schedstat").read_text().split()[0])
    return spent_ns / 1e9
