"""One tracker process against several that share swarms: announces, and whose CPU they cost.

Usage: python -m dreamer.simulations.bench.tracker_cluster [one|workers|hosts …] [--rounds N]

one      a tracker alone, without Redis
workers  one with --workers 2, which hands its connections to two processes
hosts    two trackers, of which each has half of the clients; swarms go across both

Needs redis-server. The clients of the bench and Redis share the machine's cores with the
trackers: figures by the CPU second say what sharing costs, those by the second what this machine
can do while it does all of that.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import uvloop

from dreamer.simulations.bench.tracker_load import usage
from dreamer.simulations.bench.tracker_load.books import Books, Latency
from dreamer.simulations.bench.tracker_load.client import Address, Client, connect
from dreamer.simulations.bench.tracker_load.crowd import Crowd
from dreamer.simulations.bench.tracker_load.drive import (
    ClosedLoop,
    Load,
    OpenLoop,
    everyone_joins,
    settle,
)
from dreamer.simulations.loopback import Process, program

MODES = ("one", "workers", "hosts")
JOINING_AT_ONCE = 64


@dataclass(frozen=True)
class Servers:
    """What is measured together: where clients go, and the processes that serve them."""

    addresses: tuple[Address, ...]
    trackers: tuple[int, ...]
    redis: int | None


class Spread(Crowd):
    """A crowd whose clients take one of several addresses in turn."""

    def __init__(self, addresses: tuple[Address, ...], sockets: int, per_swarm: int) -> None:
        super().__init__(addresses[0], sockets, per_swarm, seed=1)
        self._addresses = addresses

    async def _open(self, index: int) -> Client:
        address = self._addresses[index % len(self._addresses)]
        client = await connect(address, self._take, None)
        client.index, client.names = index, self._names[index]
        return client


@contextmanager
def servers(mode: str) -> Iterator[Servers]:
    """Run what a mode needs."""
    with ExitStack() as stack:
        scratch = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dreamer-bench-")))
        redis, shared = None, []
        if mode != "one":
            url = f"unix://{scratch}/redis.sock"
            redis = Process(
                ["redis-server", "--port", "0", "--unixsocket", f"{scratch}/redis.sock",
                 "--save", "", "--dir", str(scratch)],
                scratch / "redis.log",
            )  # fmt: skip
            stack.enter_context(redis)
            redis.start(r"(Ready to accept connections|ready to accept connections)")
            shared = ["--redis", url, *(["--workers", "2"] if mode == "workers" else [])]
        trackers, addresses = [], []
        for number in range(2 if mode == "hosts" else 1):
            argv = [program("dreamer-tracker"), "--listen", "127.0.0.1:0", *shared]
            argv += ["--data", f"{scratch}/{number}", "--sockets-per-address", "0"]
            tracker = stack.enter_context(Process(argv, scratch / f"{number}.log"))
            addresses.append(Address.of(tracker.start(r"(?m)^(https?://\S+)$").group(1)))
            trackers.append(tracker.pid)
        yield Servers(tuple(addresses), tuple(trackers), redis.pid if redis else None)


@dataclass(frozen=True)
class Look:
    """Where everything stood at a moment."""

    at: float
    books: Books
    trackers: float
    redis: float
    clients: float

    @staticmethod
    def now(where: Servers, crowd: Crowd) -> Look:
        """Look."""
        return Look(
            time.perf_counter(),
            crowd.books.copy(),
            sum(usage.cpu(pid).total_s for pid in where.trackers),
            usage.cpu(where.redis).total_s if where.redis else 0.0,
            usage.own_cpu().total_s,
        )


async def measure(mode: str, where: Servers, given: argparse.Namespace) -> str:
    """Run one round, and return its line."""
    crowd = Spread(where.addresses, given.sockets, given.per_swarm)
    try:
        await crowd.connect()
        await everyone_joins(crowd, JOINING_AT_ONCE)
        load: Load = (
            OpenLoop(crowd, given.rate, 1) if given.rate else ClosedLoop(crowd, given.window, 1)
        )
        load.start()
        await asyncio.sleep(given.warm_up)
        before, crowd.latencies_s = Look.now(where, crowd), []
        await asyncio.sleep(given.seconds)
        after, latencies_s = Look.now(where, crowd), crowd.latencies_s
        await load.stop()
        await settle(crowd)
    finally:
        crowd.close()
    return _line(mode, before, after, Latency.of(latencies_s), crowd.books)


def _line(mode: str, before: Look, after: Look, latency: Latency, whole: Books) -> str:
    seconds = after.at - before.at
    replies = after.books.since(before.books).replies
    spent = after.trackers - before.trackers
    redis, clients = after.redis - before.redis, after.clients - before.clients
    lost = whole.offers_due - whole.answers
    return (
        f"{mode:8} {replies / seconds:7.0f} announces/s  {replies / spent:6.0f} /tracker-CPU-s  "
        f"{replies / (spent + redis):6.0f} /CPU-s with Redis  cores: trackers "
        f"{spent / seconds:.2f}, Redis {redis / seconds:.2f}, clients {clients / seconds:.2f}  "
        f"p50 {latency.p50_ms:.2f} p99 {latency.p99_ms:.2f} ms  "
        f"offers not answered {lost} of {whole.offers_due}"
    )


def main() -> None:
    """Measure each mode in turn, and print a line for each round."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("modes", nargs="*", default=MODES, metavar="MODE")
    parser.add_argument("--sockets", type=int, default=500)
    parser.add_argument("--per-swarm", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--warm-up", type=float, default=2.0)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--window", type=int, default=64)
    parser.add_argument("--rate", type=float, default=0.0, help="announces a second, for all alike")
    given = parser.parse_args()
    for _ in range(given.rounds):
        for mode in given.modes:
            with servers(mode) as where, asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
                print(loop.run(measure(mode, where, given)), flush=True)


if __name__ == "__main__":
    main()
