"""Control, REST and the daemons' loops while the webrtc lane runs flat out.

Usage: python -m dreamer.simulations.bench.latency [--mib 512] [--json]

B pulls from A over the webrtc lane alone. Both ping each other over ``control`` ten times a second,
and both are asked for their ``status`` ten times a second. Prints p50, p99 and the largest of each
in ms while nothing moves, and while the pull runs; and the p99 of the lag of each daemon's loop.
Times count from when a request was due, so that a stall is seen by all that it held up.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from dreamer.daemon.client import Dreamer
from dreamer.simulations.bench.gauges import MIB, WEBRTC_ONLY, Spread, lag_p99_ms, write_model
from dreamer.simulations.loopback import Node, tracker

IDLE_S = 5.0
INTERVAL_S = 0.1
CONTROL_TARGET_MS = STATUS_TARGET_MS = 50.0
LAG_TARGET_MS = 20.0


@dataclass(frozen=True)
class End:
    """What one daemon's users met: round trips and answers idle and busy, lag while busy."""

    control_idle: Spread
    control_busy: Spread
    status_idle: Spread
    status_busy: Spread
    lag_p99_ms: float

    @property
    def good(self) -> bool:
        """Whether every target is met."""
        return (
            self.control_busy.p99 < CONTROL_TARGET_MS
            and self.status_busy.p99 < STATUS_TARGET_MS
            and self.lag_p99_ms <= LAG_TARGET_MS
        )


class Asker:
    """Asks a node for its status at fixed times, in a thread."""

    def __init__(self, node: Node) -> None:
        self._client = Dreamer(node.home)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.answers: list[tuple[float, float]] = []
        """(when it was due, seconds until the answer)"""

    def _run(self) -> None:
        due = time.monotonic()
        while not self._stop.wait(max(0.0, due - time.monotonic())):
            self._client.status()
            self.answers.append((due, time.monotonic() - due))
            due += INTERVAL_S

    def __enter__(self) -> Asker:
        self._thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._stop.set()
        self._thread.join()


class Meter:
    """Looks at what B's links have brought, in a thread: when bulk began and when it ended."""

    def __init__(self, node: Node) -> None:
        self._client = Dreamer(node.home)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self._seen: list[tuple[float, int]] = []

    def _run(self) -> None:
        while not self._stop.wait(INTERVAL_S):
            arrived = sum(peer.bytes_down for peer in self._client.peers())
            self._seen.append((time.monotonic(), arrived))

    @property
    def busy(self) -> tuple[float, float]:
        """From when to when the count rose: a pull also looks things up, and hashes at its end."""
        first, last = self._seen[0][1], self._seen[-1][1]
        begin = max((at for at, count in self._seen if count == first), default=0.0)
        end = min((at for at, count in self._seen if count == last), default=0.0)
        return begin, end

    def __enter__(self) -> Meter:
        self._thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._stop.set()
        self._thread.join()


def pinging_node(home: Path) -> Node:
    """Return a node, not started, that notes its round trips in HOME.rtt beside its home."""
    node = Node(home, env=WEBRTC_ONLY)
    module = [sys.executable, "-m", "dreamer.simulations.bench.pinging_daemon"]
    node.process.argv[:1] = module
    node.process.argv.append(str(_notes(home)))
    return node


def _notes(home: Path) -> Path:
    return home.with_suffix(".rtt")


def _round_trips(home: Path) -> list[tuple[float, float]]:
    """Return (when it was sent, seconds), of whole lines."""
    lines = _notes(home).read_text().splitlines(keepends=True)
    pairs = (line.split() for line in lines if line.endswith("\n"))
    return [(float(at) - float(took), float(took)) for at, took in pairs]


def _within(times: list[tuple[float, float]], begin: float, end: float) -> Spread:
    return Spread.of([took for at, took in times if begin <= at < end])


@contextmanager
def linked_pair(scratch: Path) -> Iterator[tuple[Node, Node]]:
    """Run a tracker and two pinging nodes in one room."""
    with (
        tracker(scratch / "tracker") as url,
        pinging_node(scratch / "A") as a,
        pinging_node(scratch / "B") as b,
    ):
        a.dreamer("room", "create", "bench", "--tracker", url)
        b.dreamer("room", "join", a.dreamer("room", "invite", "bench")["token"])
        yield a, b


def run(size: int, scratch: Path) -> tuple[float, dict[str, End]]:
    """Return MiB/s of the pull, and what each end met meanwhile."""
    with linked_pair(scratch) as nodes:
        a, b = nodes
        write_model(scratch / "model", size)
        pushed = a.dreamer("push", str(scratch / "model"), "--room", "bench")
        with Asker(a) as asked_a, Asker(b) as asked_b, Meter(b) as meter:
            idle = time.monotonic()
            time.sleep(IDLE_S)
            before = [Dreamer(node.home).status() for node in nodes]
            quiet = time.monotonic()
            receipt = b.dreamer("pull", pushed["manifest_id"], timeout_s=3600)
            after = [Dreamer(node.home).status() for node in nodes]
        begin, end = meter.busy
        met = {}
        for place, node in enumerate(nodes):
            trips = _round_trips(node.home)
            answers = (asked_a, asked_b)[place].answers
            met["AB"[place]] = End(
                _within(trips, idle, quiet),
                _within(trips, begin, end),
                _within(answers, idle, quiet),
                _within(answers, begin, end),
                lag_p99_ms(before[place], after[place]),
            )
        return size / MIB / receipt["lane_seconds"]["webrtc"], met


def _row(what: str, spread: Spread) -> str:
    return (
        f"  {what:<24} p50 {spread.p50:7.1f}  p99 {spread.p99:7.1f}  max {spread.most:7.1f} ms"
        f"  ({spread.count})"
    )


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--mib", type=int, default=512)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dreamer-bench-") as scratch:
        rate, ends = run(given.mib * MIB, Path(scratch))
    if given.json:
        print(json.dumps({"mib_s": rate, "ends": {k: asdict(v) for k, v in ends.items()}}))
        return
    print(f"{rate:.1f} MiB/s over webrtc meanwhile")
    for name, end in ends.items():
        print(f"{name}: {'within' if end.good else 'OVER'} the targets")
        print(_row("control, idle", end.control_idle))
        print(_row("control, bulk running", end.control_busy))
        print(_row("GET status, idle", end.status_idle))
        print(_row("GET status, bulk running", end.status_busy))
        print(f"  loop lag p99 at most {end.lag_p99_ms:.0f} ms")


if __name__ == "__main__":
    main()
