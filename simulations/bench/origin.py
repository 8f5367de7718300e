"""Pull throughput from the origin, beside a plain loop of ranged GETs in the same run.

Usage: python -m dreamer.simulations.bench.origin [--mib 1024] [--rounds 3] [--json]

The origin is a server that only sends ranges from A's own store (``range_server``), so that what
is measured is the node that pulls. Each round brings the same bytes twice: with four threads that
GET, hash and write, and as a pull by B while A is away, to verified files in B's store. Prints
MB/s (10^6) of both, their ratio, B's processor seconds per GiB and its largest resident memory.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from dreamer.simulations.bench.gauges import resident_mib, write_model
from dreamer.simulations.loopback import Node, Process, tracker

MIB = 1024 * 1024
BUCKET = "bench"


@dataclass(frozen=True)
class Round:
    """MB/s of one round, B's processor seconds per GiB, and its largest resident MiB."""

    plain: float
    pull: float
    cpu_s_per_gib: float
    resident_mib: float

    @property
    def ratio(self) -> float:
        """The pull's rate over that of the plain loop."""
        return self.pull / self.plain


def plain_rate(url: str, target: Path, size: int) -> float:
    """Return MB/s of threads that do nothing but GET, hash and write."""
    argv = [sys.executable, "-m", "dreamer.simulations.bench.contenders.range_gets"]
    done = subprocess.run(
        [*argv, url, str(target), str(size)], capture_output=True, text=True, check=True
    )
    target.unlink()
    return size / 1e6 / float(done.stdout)


@contextmanager
def watched(pid: int) -> Iterator[list[float]]:
    """Yield a list that holds, once this ends, the largest resident MiB of a process."""
    most, over = [0.0], threading.Event()

    def look() -> None:
        while not over.wait(0.05):
            most[0] = max(most[0], resident_mib(pid))

    looking = threading.Thread(target=look)
    looking.start()
    try:
        yield most
    finally:
        over.set()
        looking.join()


def cpu_s(pid: int) -> float:
    """Return the processor seconds of a process so far."""
    times = psutil.Process(pid).cpu_times()
    return float(times.user + times.system)


def pull_round(node: Node, model: str, url: str, scratch: Path, size: int) -> Round:
    """Measure both ways once."""
    plain = plain_rate(url, scratch / "plain", size)
    pid = node.process.pid
    before = cpu_s(pid)
    with watched(pid) as resident:
        receipt = node.dreamer("pull", model, "--room", "bench", timeout_s=3600)
    assert receipt["bytes"]["origin"] == size, receipt
    spent = (cpu_s(pid) - before) * 1024 * MIB / size
    node.dreamer("rm", model)
    return Round(plain, size / 1e6 / receipt["seconds"], spent, resident[0])


def run(size: int, rounds: int, scratch: Path) -> list[Round]:
    """Return what each round measured."""
    server = [sys.executable, "-m", "dreamer.simulations.bench.range_server"]
    with (
        tracker(scratch / "tracker") as tracker_url,
        Node(scratch / "A") as a,
        Node(scratch / "B") as b,
        Process([*server, str(scratch / "A" / "models")], scratch / "server.log") as origin,
    ):
        endpoint = origin.start(r"(?m)^(http://\S+)$").group(1)
        place = ("--origin", f"s3://{BUCKET}/models", "--endpoint-url", endpoint)
        a.dreamer("room", "create", "bench", "--tracker", tracker_url, *place)
        b.dreamer("room", "join", a.dreamer("room", "invite", "bench")["token"])
        write_model(scratch / "model", size)
        # Nothing is uploaded: all of it is there already, for it is A's own store.
        model = a.dreamer("push", str(scratch / "model"), "--room", "bench")["manifest_id"]
        (stored,) = (
            path
            for path in (scratch / "A/models/.dreamer/files").iterdir()
            if path.stat().st_size == size
        )
        a.process.stop()
        url = f"{endpoint}/{BUCKET}/models/files/{stored.name}"
        return [pull_round(b, model, url, scratch, size) for _ in range(rounds)]


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dreamer-bench-") as scratch:
        rounds = run(given.mib * MIB, given.rounds, Path(scratch))
    ratio = statistics.median(each.ratio for each in rounds)
    if given.json:
        print(json.dumps({"rounds": [asdict(each) for each in rounds], "ratio": ratio}))
        return
    for number, each in enumerate(rounds, 1):
        print(
            f"round {number}: plain {each.plain:.0f} MB/s, pull {each.pull:.0f} MB/s, "
            f"{each.ratio:.2f}; {each.cpu_s_per_gib:.2f} CPU-s per GiB, "
            f"{each.resident_mib:.0f} MiB resident"
        )
    print(f"median ratio {ratio:.2f}")


if __name__ == "__main__":
    main()
