"""Pull throughput over the webrtc lane, beside bare aiortc in the same run.

Usage: python -m dreamer.simulations.bench.webrtc [--mib 1024] [--rounds 3] [--json]

Each round moves the same bytes twice: between two bare aiortc processes, and from daemon A to
daemon B as a pull, to verified blocks on disk. Prints MiB/s of both and their ratio, round by
round, the processor seconds per GiB of A and B, the p99 of the lag of B's loop, and the resident
memory of B's processes after the last.
"""

from __future__ import annotations

import argparse
import json
import socket
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from dreamer.daemon.client import Dreamer
from dreamer.simulations.bench.gauges import (
    MIB,
    WEBRTC_ONLY,
    cpu_seconds,
    lag_p99_ms,
    resident_mib,
    write_model,
)
from dreamer.simulations.loopback import Node, tracker


@dataclass(frozen=True)
class Round:
    """MiB/s of one round; processor seconds per GiB of A and B, and B's loop lag in ms."""

    bare: float
    pull: float
    cpu_a: float
    cpu_b: float
    lag_p99_ms: float

    @property
    def ratio(self) -> float:
        """The pull's rate over the bare one."""
        return self.pull / self.bare


def bare_rate(size: int) -> float:
    """Return MiB/s between two bare aiortc processes."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        argv = [sys.executable, "-m", "dreamer.simulations.bench.bare_aiortc"]
        send = subprocess.Popen(
            [*argv, "send", str(ours.fileno()), str(size)], pass_fds=[ours.fileno()]
        )
        receive = subprocess.Popen(
            [*argv, "receive", str(theirs.fileno()), str(size)],
            pass_fds=[theirs.fileno()],
            stdout=subprocess.PIPE,
            text=True,
        )
    out, _ = receive.communicate(timeout=600)
    send.wait(timeout=30)
    return size / MIB / float(out)


def _measure(a: Node, b: Node, ref: str, size: int) -> Round:
    bare = bare_rate(size)
    used = [cpu_seconds(node.process.pid) for node in (a, b)]
    before = Dreamer(b.home).status()
    receipt = b.dreamer("pull", ref, timeout_s=3600)
    after = Dreamer(b.home).status()
    cpu_a, cpu_b = (
        (cpu_seconds(node.process.pid) - was) * 1024 * MIB / size
        for node, was in zip((a, b), used, strict=True)
    )
    rate = size / MIB / receipt["lane_seconds"]["webrtc"]
    return Round(bare, rate, cpu_a, cpu_b, lag_p99_ms(before, after))


def run(size: int, rounds: int, scratch: Path) -> tuple[list[Round], float]:
    """Return what each round measured, and B's resident MiB at the end."""
    measured = []
    with (
        tracker(scratch / "tracker") as url,
        Node(scratch / "A", env=WEBRTC_ONLY) as a,
        Node(scratch / "B", env=WEBRTC_ONLY) as b,
    ):
        a.dreamer("room", "create", "bench", "--tracker", url)
        b.dreamer("room", "join", a.dreamer("room", "invite", "bench")["token"])
        for number in range(rounds):
            model = scratch / f"model-{number}"
            write_model(model, size)
            pushed = a.dreamer("push", str(model), "--room", "bench")
            measured.append(_measure(a, b, pushed["manifest_id"], size))
            for node in (a, b):
                node.dreamer("rm", pushed["manifest_id"])
        return measured, resident_mib(b.process.pid)


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dreamer-bench-") as scratch:
        rounds, resident = run(given.mib * MIB, given.rounds, Path(scratch))
    ratio = statistics.median(each.ratio for each in rounds)
    if given.json:
        print(json.dumps({"rounds": [asdict(r) for r in rounds], "ratio": ratio, "rss": resident}))
        return
    for number, each in enumerate(rounds, 1):
        print(
            f"round {number}: bare {each.bare:.1f}, pull {each.pull:.1f}, {each.ratio:.2f}; "
            f"CPU s/GiB A {each.cpu_a:.1f}, B {each.cpu_b:.1f}; "
            f"B's loop lag p99 at most {each.lag_p99_ms:.0f} ms"
        )
    print(f"median ratio {ratio:.2f}; B's resident memory at the end {resident:.0f} MiB")


if __name__ == "__main__":
    main()
