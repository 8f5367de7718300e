"""Pull throughput over the webrtc lane, beside bare aiortc in the same run.

Usage: python -m dreamer.simulations.bench.webrtc [--mib 1024] [--rounds 3] [--json]

Each round moves the same bytes twice: between two bare aiortc processes, and from daemon A to
daemon B as a pull, to verified blocks on disk. Prints MiB/s of both and their ratio, round by
round, and the resident memory of B's processes after the last.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

from dreamer.simulations.loopback import Node, tracker

MIB = 1024 * 1024


@dataclass(frozen=True)
class Round:
    """MiB/s of one round."""

    bare: float
    pull: float

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


def write_model(path: Path, size: int) -> None:
    """Write one file of random bytes: nothing in it is the same twice."""
    path.mkdir()
    with (path / "weights.bin").open("wb") as file:
        for _ in range(size // MIB):
            file.write(os.urandom(MIB))


def resident_mib(pid: int) -> float:
    """Return the resident memory of a process and its children, in MiB."""
    process = psutil.Process(pid)
    family = [process, *process.children(recursive=True)]
    return float(sum(each.memory_info().rss for each in family)) / MIB


def run(size: int, rounds: int, scratch: Path) -> tuple[list[Round], float]:
    """Return the rates of each round and B's resident MiB at the end."""
    measured = []
    with (
        tracker(scratch / "tracker") as url,
        Node(scratch / "A") as a,
        Node(scratch / "B") as b,
    ):
        a.dreamer("room", "create", "bench", "--tracker", url)
        b.dreamer("room", "join", a.dreamer("room", "invite", "bench")["token"])
        for number in range(rounds):
            model = scratch / f"model-{number}"
            write_model(model, size)
            pushed = a.dreamer("push", str(model), "--room", "bench")
            bare = bare_rate(size)
            receipt = b.dreamer("pull", pushed["manifest_id"], timeout_s=3600)
            measured.append(Round(bare, size / MIB / receipt["lane_seconds"]["webrtc"]))
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
        print(f"round {number}: bare {each.bare:.1f}, pull {each.pull:.1f}, {each.ratio:.2f}")
    print(f"median ratio {ratio:.2f}; B's resident memory at the end {resident:.0f} MiB")


if __name__ == "__main__":
    main()
