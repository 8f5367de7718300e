"""Resident memory of both daemons while a large model moves between them, over each lane.

Usage: python -m dreamer.simulations.bench.memory [--gib 2] [--only LANE] [--json]

For each lane two fresh daemons move one model. Prints, for A and B with all their processes, MiB
when started, the largest while it ran, and after: pages that several processes share are counted
once (PSS). The plain sum of resident sizes, which counts them once for each process, stands beside
the largest; and what each lane really carried.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import psutil

from dreamer.simulations.bench.gauges import (
    MIB,
    WEBRTC_ONLY,
    proportional_mib,
    resident_mib,
    write_model,
)
from dreamer.simulations.loopback import LoopbackError, Node, Process, tracker

SAMPLE_S = 0.25
TARGET_MIB = 250

LANES = ("direct", "webrtc", "torrent", "origin")
TORRENT = {"DREAMER_TORRENT_LISTEN": "127.0.0.1:0", "DREAMER_TORRENT_LOCAL_PEERS": "true"}
ENVIRONMENT = {
    "direct": {},
    "webrtc": WEBRTC_ONLY,
    # The slowest of the others stays on beside it: nothing turns off all lanes but one.
    "torrent": {**WEBRTC_ONLY, **TORRENT},
    "origin": {},
}


@dataclass(frozen=True)
class Memory:
    """MiB of one daemon's processes; ``rss_most`` counts shared pages for each of them."""

    node: str
    started: float
    most: float
    after: float
    rss_most: float

    @property
    def good(self) -> bool:
        """Whether it stayed within the target."""
        return self.most <= TARGET_MIB


class Watched:
    """The memory of a node so far."""

    def __init__(self, name: str, node: Node) -> None:
        self._name = name
        self._pid = node.process.pid
        self._started = self._most = proportional_mib(self._pid)
        self._rss_most = resident_mib(self._pid)

    def look(self) -> None:
        """Take note of what it holds now; one that has stopped holds nothing."""
        try:
            self._most = max(self._most, proportional_mib(self._pid))
            self._rss_most = max(self._rss_most, resident_mib(self._pid))
        except psutil.NoSuchProcess:
            return

    def result(self) -> Memory:
        """Return it all."""
        try:
            after = proportional_mib(self._pid)
        except psutil.NoSuchProcess:
            after = 0.0
        return Memory(self._name, self._started, self._most, after, self._rss_most)


@contextmanager
def _origin(lane: str, store: Path, log: Path) -> Iterator[tuple[str, ...]]:
    """Yield the options by which a room has an origin, which serves A's own store."""
    if lane != "origin":
        yield ()
        return
    argv = [sys.executable, "-m", "dreamer.simulations.bench.range_server", str(store)]
    with Process(argv, log) as server:
        endpoint = server.start(r"(?m)^(http://\S+)$").group(1)
        yield "--origin", "s3://bench/models", "--endpoint-url", endpoint


def run(lane: str, size: int, scratch: Path) -> tuple[dict[str, int], list[Memory]]:
    """Return bytes by lane of the pull, and the memory of both ends."""
    env = ENVIRONMENT[lane]
    with (
        tracker(scratch / "tracker") as url,
        Node(scratch / "A", env=env) as a,
        Node(scratch / "B", env=env) as b,
        _origin(lane, scratch / "A" / "models", scratch / "origin.log") as place,
    ):
        a.dreamer("room", "create", "bench", "--tracker", url, *place)
        b.dreamer("room", "join", a.dreamer("room", "invite", "bench")["token"])
        ends = [Watched("A, sending", a), Watched("B, receiving", b)]
        write_model(scratch / "model", size)
        public = ["--public"] if lane == "torrent" else []
        pushed = a.dreamer("push", str(scratch / "model"), "--room", "bench", *public)
        if lane == "origin":
            ends[0].look()
            a.process.stop()
        receipt = _pull(b, pushed["manifest_id"], ends)
        return receipt["bytes"], [end.result() for end in ends]


def _pull(node: Node, ref: str, ends: list[Watched]) -> Any:
    # What it says goes to a pipe, which must be read all the while.
    with node.begin("pull", ref, "--json", "--room", "bench") as pull:
        while True:
            for end in ends:
                end.look()
            try:
                out, err = pull.communicate(timeout=SAMPLE_S)
                break
            except subprocess.TimeoutExpired:
                continue
    if pull.returncode:
        raise LoopbackError(f"the pull failed: {out}{err}")
    return json.loads(out)


def _print(lane: str, moved: dict[str, int], ends: list[Memory]) -> None:
    carried = ", ".join(f"{name} {size / MIB:.0f}" for name, size in moved.items() if size)
    print(f"{lane} (MiB carried: {carried})")
    for end in ends:
        print(
            f"  {end.node:<13} {end.started:4.0f} MiB at start, {end.most:4.0f} at most, "
            f"{end.after:4.0f} after; {'within' if end.good else 'OVER'} {TARGET_MIB}"
            f"  (sum of resident sizes at most {end.rss_most:.0f})"
        )


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--gib", type=float, default=2.0)
    parser.add_argument("--only", choices=LANES)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    found = {}
    for lane in [given.only] if given.only else LANES:
        with tempfile.TemporaryDirectory(prefix="dreamer-bench-") as scratch:
            moved, ends = run(lane, int(given.gib * 1024) * MIB, Path(scratch))
        found[lane] = [asdict(end) for end in ends]
        if not given.json:
            _print(lane, moved, ends)
    if given.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
