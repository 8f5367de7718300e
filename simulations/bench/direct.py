"""The direct lane beside what others use: one file from process to process on this machine.

Usage: python -m dreamer.simulations.bench.direct [--mib 1024] [--rounds 3] [--memory-mib 1536]
[--scratch DIR] [--json]

Each round runs a pull between two daemons and every contender once, one after the other, on files
of the same size: ratios compare what ran within minutes. All clocks begin with the connection or
the command and end when the last byte is verified and flushed to disk. Ours is the whole pull:
what the daemon's receipt says, from resolving the name to the last file in the store.

With ``--memory-mib`` (root) all of them have so little memory together, as with models larger than
that of the machine; 1 GiB needs some 1,200. ``memory_group`` says why that is the steadier figure.
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import shutil
import statistics
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path

import psutil

from dreamer.simulations.bench.contenders.aria2_bt import Aria2Bt
from dreamer.simulations.bench.contenders.bare_tls import BareTls
from dreamer.simulations.bench.contenders.ends import MIB, Contender, MissingError, Run, Usage
from dreamer.simulations.bench.contenders.iroh_stream import IrohStream
from dreamer.simulations.bench.contenders.libtorrent_tcp import LibtorrentTcp
from dreamer.simulations.bench.contenders.rsync_daemon import RsyncDaemon
from dreamer.simulations.bench.gauges import write_model
from dreamer.simulations.bench.memory_group import bounded_memory
from dreamer.simulations.loopback import LoopbackError, Node, tracker

OURS = "dreamer direct"
LAG_TARGET_MS = 20.0
MEMORY_TARGET_MIB = 250.0
TARGETS = {
    "bare TLS loop": 0.8,
    "libtorrent TCP": 2.0,
    "iroh": 2.0,
    "aria2 BT": 4.0,
    "rsync daemon": 1.0,
}
"""How many times as fast as each we are to be."""


@dataclass
class Table:
    """What was measured: runs by name, and the loop lag of the receiving daemon, round by round."""

    size: int
    warmed_bytes: int = 0
    """How much memory is touched before each run."""
    runs: dict[str, list[Run]] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    lag_p99_ms: list[float] = field(default_factory=list)

    def rate(self, run: Run) -> float:
        """Return MiB/s."""
        return self.size / MIB / run.seconds

    def ratio(self, name: str) -> float:
        """Return the median, over the rounds, of our rate over that of another."""
        pairs = zip(self.runs[OURS], self.runs[name], strict=True)
        return statistics.median(other.seconds / ours.seconds for ours, other in pairs)

    def lines(self) -> list[str]:
        """Return the table, ready to print."""
        head = f"{'':16} {'MiB/s':>7} {'ours is':>8} {'target':>7} {'CPU s/GiB':>12} {'MiB':>10}"
        rows = [self._row(name) for name in self.runs]
        gone = [f"{name:16} skipped: {why}" for name, why in self.skipped.items()]
        lag = statistics.median(self.lag_p99_ms)
        return [
            head,
            *rows,
            *gone,
            f"event-loop lag p99 of the receiving daemon {lag:.1f} ms (target {LAG_TARGET_MS:.0f})",
        ]

    def _row(self, name: str) -> str:
        runs = self.runs[name]
        rate = statistics.median(self.rate(run) for run in runs)
        gib = self.size / MIB / 1024
        cost = [
            statistics.median(end.cpu_s / gib for end in ends)
            for ends in ([run.giver for run in runs], [run.taker for run in runs])
        ]
        memory = max(max(run.giver.resident_mib, run.taker.resident_mib) for run in runs)
        against = f"{self.ratio(name):7.2f}x {TARGETS[name]:6.1f}x" if name in TARGETS else " " * 16
        return f"{name:16} {rate:7.0f} {against} {cost[0]:5.2f} + {cost[1]:4.2f} {memory:10.0f}"


class Daemons:
    """Two daemons in a room; each pull is of a new model."""

    def __init__(self, a: Node, b: Node, url: str, warmed_bytes: int) -> None:
        self._a, self._b = a, b
        self._warmed_bytes = warmed_bytes
        a.dreamer("room", "create", "bench", "--tracker", url)
        b.dreamer("room", "join", a.dreamer("room", "invite", "bench")["token"])

    def run(self, model: Path) -> tuple[Run, float]:
        """Pull a model; return what it took, and the loop's p99 lag in ms while it ran."""
        a, b = self._a, self._b
        pushed = a.dreamer("push", str(model), "--room", "bench")
        _settle(self._warmed_bytes)
        before = [_family(node) for node in (a, b)]
        receipt = b.dreamer("pull", pushed["manifest_id"])
        after = [_family(node) for node in (a, b)]
        lag = b.dreamer("status")["loop_lag"]["p99_ms"]
        size = sum(receipt["bytes"].values())
        if receipt["bytes"]["direct"] != size:
            raise LoopbackError(f"not all came over the direct lane: {receipt['bytes']}")
        for node in (a, b):
            node.dreamer("rm", pushed["manifest_id"])
        ends = [
            Usage(now.cpu_s - then.cpu_s, now.resident_mib)
            for then, now in zip(before, after, strict=True)
        ]
        return Run(receipt["seconds"], *ends), lag


def _family(node: Node) -> Usage:
    process = psutil.Process(node.process.pid)
    family = [process, *process.children(recursive=True)]
    cpu = sum(sum(each.cpu_times()[:2]) for each in family)
    return Usage(cpu, sum(each.memory_info().rss for each in family) / MIB)


def warm_memory(size: int) -> None:
    """Touch as much memory as a run will fill, and give it back.

    A virtual machine asks its host for every page that it has not used for a while, at a tenth of
    the speed measured here: whoever ran first would pay for all that come after.
    """
    with mmap.mmap(-1, max(size, 1)) as memory:
        for offset in range(0, size, mmap.PAGESIZE):
            memory[offset] = 1


@contextmanager
def _emptied(place: Path) -> Iterator[Path]:
    place.mkdir()
    try:
        yield place
    finally:
        shutil.rmtree(place)


def _settle(size: int) -> None:
    # What waits to be written by the one before must not be paid for by the next.
    os.sync()
    warm_memory(size)


def measure(table: Table, rounds: int, scratch: Path, contenders: Sequence[Contender]) -> None:
    """Run everything ``rounds`` times."""
    with (
        tracker(scratch / "tracker") as url,
        Node(scratch / "A") as a,
        Node(scratch / "B") as b,
    ):
        daemons = Daemons(a, b, url, table.warmed_bytes)
        for number in range(rounds):
            model = scratch / f"model-{number}"
            write_model(model, table.size)
            run, lag = daemons.run(model)
            table.runs.setdefault(OURS, []).append(run)
            table.lag_p99_ms.append(lag)
            for one in contenders:
                if one.name not in table.skipped:
                    _contend(table, one, model / "weights.bin", scratch)
            shutil.rmtree(model)


def _contend(table: Table, one: Contender, source: Path, scratch: Path) -> None:
    try:
        with _emptied(scratch / "contender") as place:
            _settle(table.warmed_bytes)
            table.runs.setdefault(one.name, []).append(one.run(source, place))
    except MissingError as error:
        del table.runs[one.name]
        table.skipped[one.name] = str(error)


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--memory-mib", type=int, help="the memory of all together; needs root")
    parser.add_argument("--scratch", type=Path, help="a directory on the disk to be used")
    parser.add_argument("--only", nargs="*", help="names of contenders")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    everybody: list[Contender] = [
        *(BareTls(), LibtorrentTcp(), IrohStream(), Aria2Bt(), RsyncDaemon()),
    ]
    chosen = [one for one in everybody if given.only is None or one.name in given.only]
    bounded = given.memory_mib is not None
    table = Table(given.mib * MIB, 0 if bounded else given.mib * MIB)
    with (
        bounded_memory(given.memory_mib) if bounded else nullcontext(),
        tempfile.TemporaryDirectory(prefix="dreamer-bench-", dir=given.scratch) as scratch,
    ):
        measure(table, given.rounds, Path(scratch), chosen)
    print(json.dumps(asdict(table)) if given.json else "\n".join(table.lines()))


if __name__ == "__main__":
    main()
