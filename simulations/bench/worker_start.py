"""How long a worker takes until it is ready: with nothing, and with a volume that has the model.

Usage: python -m dreamer.simulations.bench.worker_start [--mib 1024] [--rounds 3] [--scratch DIR]
       [--json]

Each round starts a pod's ``dreamerd`` with one model to preload, thrice, each in a home and with an
identity of its own: with an empty volume, so that the model comes from a peer on this machine; with
the volume that this left behind, which a new node verifies by its hashes; and with no model to
preload at all, which is what starting alone takes. Beside them stands the hashing of the same file
with BLAKE3, on as many threads as the store uses: a warm start can't take less. Seconds run from
the start of the process to its word that it is ready; the pages of the file are in memory.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import tempfile
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from blake3 import blake3

from dreamer.simulations.bench.gauges import MIB, write_model
from dreamer.simulations.loopback import LoopbackError, Node, tracker
from dreamer.simulations.pods import Pod

ALIAS = "bench"
COLD, WARM, BARE, HASH = "cold", "warm", "no model", "BLAKE3 alone"


@dataclass
class Starts:
    """Seconds until ready, by what was there, round by round."""

    mib: int
    seconds: dict[str, list[float]] = field(default_factory=dict)

    def note(self, name: str, seconds: float) -> None:
        """Take down one start."""
        self.seconds.setdefault(name, []).append(seconds)

    def median(self, name: str) -> float:
        """Return the median of one kind."""
        return statistics.median(self.seconds[name])

    def ratio(self) -> float:
        """Return the median, over the rounds, of a cold start's time over a warm one's."""
        pairs = zip(self.seconds[COLD], self.seconds[WARM], strict=True)
        return statistics.median(cold / warm for cold, warm in pairs)

    def lines(self) -> list[str]:
        """Return the table, ready to print."""
        rows = [f"{name:14} {self.median(name):7.2f} s" for name in self.seconds]
        return [f"{self.mib} MiB", *rows, f"a cold start takes {self.ratio():.1f} times a warm one"]


def _start(place: Path, env: Mapping[str, str]) -> tuple[float, int]:
    """Start a pod and end it; return its seconds until ready and the bytes it fetched."""
    place.mkdir()
    pod = Pod(place, "pod", **env)
    before = time.monotonic()
    with pod:
        seconds = time.monotonic() - before
        by_lane = pod.client.status()["bytes_by_lane"]
    shutil.rmtree(place)
    return seconds, sum(size for lane, size in by_lane.items() if lane != "cache")


def _hashed(path: Path) -> float:
    before = time.monotonic()
    blake3(max_threads=blake3.AUTO).update_mmap(path).digest()
    return time.monotonic() - before


def measure(mib: int, rounds: int, scratch: Path) -> Starts:
    """Run every kind of start ``rounds`` times.

    Raises:
        LoopbackError: a cold start fetched something else than the model, or a warm one anything.
    """
    starts = Starts(mib)
    model = scratch / "model"
    write_model(model, mib * MIB)
    with tracker(scratch / "tracker") as url, Node(scratch / "A") as a:
        a.dreamer("room", "create", "bench", "--tracker", url)
        a.dreamer("push", str(model), "--room", "bench", "--alias", ALIAS)
        token = a.dreamer("room", "invite", "bench", "--uses", "1000")["token"]
        bare = {"DREAMER_JOIN_TOKEN": token, "MODELS_DIR": str(scratch / "empty")}
        for _ in range(rounds):
            volume = scratch / "volume"
            preload = {**bare, "MODELS_DIR": str(volume), "DREAMER_MODELS_PRELOAD": ALIAS}
            for name, expected in ((COLD, mib * MIB), (WARM, 0)):
                seconds, fetched = _start(scratch / "pod", preload)
                if fetched != expected:
                    raise LoopbackError(f"a {name} start fetched {fetched} bytes, not {expected}")
                starts.note(name, seconds)
            starts.note(BARE, _start(scratch / "pod", bare)[0])
            starts.note(HASH, _hashed(model / "weights.bin"))
            shutil.rmtree(volume)
    return starts


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--scratch", type=Path, help="a directory on the disk to be used")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dreamer-start-", dir=given.scratch) as scratch:
        found = measure(given.mib, given.rounds, Path(scratch))
    print(json.dumps(asdict(found)) if given.json else "\n".join(found.lines()))


if __name__ == "__main__":
    main()
