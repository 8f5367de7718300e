"""Resident memory of both daemons after a large model has moved between them.

Usage: python -m dreamer.simulations.bench.memory [--gib 4]

Prints MiB of A and B (daemon and its transport process together), when started and after the
pull, and the largest seen while it ran.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from pathlib import Path

from dreamer.simulations.bench.webrtc import MIB, resident_mib, write_model
from dreamer.simulations.loopback import LoopbackError, Node, tracker

SAMPLE_S = 0.5
TARGET_MIB = 250


def _watch(pull: subprocess.Popen[str], nodes: tuple[Node, ...]) -> list[float]:
    peaks = [0.0 for _ in nodes]
    while True:
        peaks = [
            max(peak, resident_mib(node.process.pid))
            for peak, node in zip(peaks, nodes, strict=True)
        ]
        try:
            pull.wait(SAMPLE_S)
        except subprocess.TimeoutExpired:
            continue
        return peaks


def run(size: int, scratch: Path) -> list[tuple[str, float, float, float]]:
    """Return (node, MiB at start, peak MiB, MiB after) for A and B."""
    with (
        tracker(scratch / "tracker") as url,
        Node(scratch / "A") as a,
        Node(scratch / "B") as b,
    ):
        a.dreamer("room", "create", "bench", "--tracker", url)
        b.dreamer("room", "join", a.dreamer("room", "invite", "bench")["token"])
        started = [resident_mib(node.process.pid) for node in (a, b)]
        write_model(scratch / "model", size)
        pushed = a.dreamer("push", str(scratch / "model"), "--room", "bench")
        with b.begin("pull", pushed["manifest_id"], "--json") as pull:
            peaks = _watch(pull, (a, b))
            out, err = pull.communicate()
        if pull.returncode:
            raise LoopbackError(f"the pull failed: {out}{err}")
        after = [resident_mib(node.process.pid) for node in (a, b)]
    return list(zip(("A, sending", "B, receiving"), started, peaks, after, strict=True))


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--gib", type=float, default=4.0)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dreamer-bench-") as scratch:
        rows = run(int(given.gib * 1024) * MIB, Path(scratch))
    for name, start, peak, after in rows:
        print(
            f"{name}: {start:.0f} MiB at start, {peak:.0f} at most, {after:.0f} after "
            f"({after / TARGET_MIB:.2f} of {TARGET_MIB})"
        )


if __name__ == "__main__":
    main()
