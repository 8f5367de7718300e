"""Several links at once over the webrtc lane: with one transport process, and with one each.

Usage: python -m dreamer.simulations.bench.webrtc_links [--mib 384] [--seeders 2] [--rounds 3]
       [--pin] [--json]

B pulls one model from several seeders, each a daemon of its own, all over webrtc. In each round B
runs once with ``transport_processes = 1`` and once with as many as there are seeders. Prints MiB/s
of both, their ratio, and how many cores B's processes took (processor seconds by the second).

All ends share this machine's cores, so with few of them the rate says little: the seeders take what
the second process could. ``--pin`` gives the seeders the first core and B the others, and shows
whether one process was what held B up. On two cores B then has one for itself either way.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from dreamer.daemon.client import Dreamer
from dreamer.simulations.bench.gauges import (
    MIB,
    WEBRTC_ONLY,
    cpu_seconds,
    family,
    proportional_mib,
    write_model,
)
from dreamer.simulations.loopback import Node, tracker, until


@dataclass(frozen=True)
class Pull:
    """One pull by B: MiB/s, cores that B took, MiB of memory that B's processes hold (PSS)."""

    processes: int
    mib_s: float
    cores: float
    memory_mib: float


def puller(home: Path, processes: int) -> Node:
    """Return B, not started, with so many transport processes."""
    spread = {"DREAMER_NETWORK_TRANSPORT_PROCESSES": str(processes)}
    return Node(home, env={**WEBRTC_ONLY, **spread})


def _pin(nodes: Iterable[Node], cores: set[int]) -> None:
    for node in nodes:
        for process in family(node.process.pid):
            with contextlib.suppress(psutil.NoSuchProcess):
                for thread in process.threads():
                    os.sched_setaffinity(thread.id, cores)


def _pull(home: Path, processes: int, ref: str, size: int, seeders: list[Node], pin: bool) -> Pull:
    with puller(home, processes) as b:
        client = Dreamer(home)
        until(
            lambda: sum(peer.linked for peer in client.peers()) == len(seeders),
            "B's links",
        )
        if pin:
            every = os.sched_getaffinity(0)
            first = {min(every)}
            _pin(seeders, first)
            _pin([b], every - first or first)
        before, begin = cpu_seconds(b.process.pid), time.monotonic()
        receipt = b.dreamer("pull", ref, timeout_s=3600)
        took = time.monotonic() - begin
        cores = (cpu_seconds(b.process.pid) - before) / took
        memory = proportional_mib(b.process.pid)
        b.dreamer("rm", ref)
        if len(receipt["peers"]) < len(seeders):
            raise RuntimeError(f"not all seeders took part: {receipt['peers']}")
    return Pull(processes, size / MIB / receipt["lane_seconds"]["webrtc"], cores, memory)


def run(size: int, seeders: int, rounds: int, pin: bool, scratch: Path) -> list[list[Pull]]:
    """Return, for each round, the pulls with one process and with several."""
    with tracker(scratch / "tracker") as url, ExitStack() as stack:
        # The seeders give the model to each other over the direct lane, and to B by webrtc only.
        nodes = [stack.enter_context(Node(scratch / f"S{n}")) for n in range(seeders)]
        nodes[0].dreamer("room", "create", "bench", "--tracker", url)
        write_model(scratch / "model", size)
        ref = nodes[0].dreamer("push", str(scratch / "model"), "--room", "bench")["manifest_id"]
        for node in nodes[1:]:
            _join(node, nodes[0])
            node.dreamer("pull", ref)
        with puller(scratch / "B", 1) as b:
            _join(b, nodes[0])
        return [
            [_pull(scratch / "B", count, ref, size, nodes, pin) for count in (1, seeders)]
            for _ in range(rounds)
        ]


def _join(node: Node, keeper: Node) -> None:
    node.dreamer("room", "join", keeper.dreamer("room", "invite", "bench")["token"])


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--mib", type=int, default=384)
    parser.add_argument("--seeders", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--pin", action="store_true")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dreamer-bench-") as scratch:
        rounds = run(given.mib * MIB, given.seeders, given.rounds, given.pin, Path(scratch))
    ratio = statistics.median(several.mib_s / one.mib_s for one, several in rounds)
    if given.json:
        print(json.dumps({"rounds": [[asdict(p) for p in r] for r in rounds], "ratio": ratio}))
        return
    for number, pulls in enumerate(rounds, 1):
        for each in pulls:
            print(
                f"round {number}: {each.processes} process(es) {each.mib_s:6.1f} MiB/s, "
                f"B took {each.cores:.2f} cores and {each.memory_mib:.0f} MiB"
            )
    print(f"median ratio {ratio:.2f} on {os.cpu_count()} cores, shared by all ends")


if __name__ == "__main__":
    main()
