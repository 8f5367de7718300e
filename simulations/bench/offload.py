"""Time to the first token through a peer beside the same on that peer, and how tokens arrive.

Usage: python -m dreamer.simulations.bench.offload [--gguf FILE] [--rounds 40] [--json]

Two daemons on loopback: A holds the model and serves, B asks A. Prompts differ from request to
request, so that nothing is reused, and the two ways take turns, so that whatever else the machine
does meets both. Times are those of a Python client at each daemon's socket. The round trip is what
the link's own pings measured. Gaps are those between tokens; a token that comes at once after the
one before it, instead of after its share of the time, came in a burst.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from itertools import pairwise
from pathlib import Path
from statistics import median

from dreamer.daemon.client import Dreamer
from dreamer.daemon.surfaces.inference import Prefer, RunText
from dreamer.simulations.loopback import Node, tracker
from dreamer.simulations.tiny_model import TinyShape, write_tiny_gguf

TARGET_MS = 10.0
TOKENS = 32
WARM_UP = 3
BURST = 0.25
"""A gap below this part of the median one is a burst's."""
SHAPE = TinyShape(layers=8, hidden=512, intermediate=2048, heads=8, kv_heads=4)


@dataclass
class Way:
    """Requests of one way, in ms: to the first token, and between tokens."""

    first_ms: list[float] = field(default_factory=list)
    gaps_ms: list[float] = field(default_factory=list)

    @property
    def median_first_ms(self) -> float:
        """The median time to the first token."""
        return median(self.first_ms)

    @property
    def bursts(self) -> float:
        """The share of tokens that came in bursts."""
        usual = median(self.gaps_ms)
        return sum(gap < BURST * usual for gap in self.gaps_ms) / len(self.gaps_ms)


@dataclass(frozen=True)
class Result:
    """What was measured; ``allowed_ms`` is the target for the median through the peer."""

    rounds: int
    local_first_ms: float
    peer_first_ms: float
    rtt_ms: float
    allowed_ms: float
    local_gap_ms: float
    peer_gap_ms: float
    local_bursts: float
    peer_bursts: float

    @property
    def good(self) -> bool:
        """Whether the target is met."""
        return self.peer_first_ms <= self.allowed_ms


def ask(node: Node, prompt: str, where: Prefer, way: Way | None) -> None:
    """Run the model once; note its times in ``way``."""
    began = time.perf_counter()
    events = Dreamer(node.home).run_events("bench", prompt, None, TOKENS, where)
    at = [time.perf_counter() for event in events if isinstance(event, RunText)]
    if way is not None:
        way.first_ms.append(1e3 * (at[0] - began))
        way.gaps_ms += [1e3 * (after - before) for before, after in pairwise(at)]


@contextmanager
def pair(scratch: Path, gguf: Path | None) -> Iterator[tuple[Node, Node]]:
    """Run a tracker, a node that serves the model, and one that asks it."""
    if gguf is None:
        gguf = scratch / "bench.gguf"
        write_tiny_gguf(gguf, shape=SHAPE)
    with (
        tracker(scratch / "tracker") as url,
        Node(scratch / "A", env={"DREAMER_INFERENCE_SERVE_PEERS": "true"}) as a,
        Node(scratch / "B") as b,
    ):
        a.dreamer("room", "create", "bench", "--tracker", url)
        b.dreamer("room", "join", a.dreamer("room", "invite", "bench")["token"])
        a.dreamer("import", str(gguf), "--output", str(scratch / "model"))
        a.dreamer("push", str(scratch / "model"), "--room", "bench", "--alias", "bench")
        yield a, b


def run(scratch: Path, gguf: Path | None, rounds: int) -> Result:
    """Measure both ways."""
    local, peer, rtts = Way(), Way(), []
    with pair(scratch, gguf) as (a, b):
        asker = Dreamer(b.home)
        for number in range(-WARM_UP, rounds):
            rest = f"{number:3}: " + "what did the other node say? " * 4
            ask(a, f"a{rest}", "local", local if number >= 0 else None)
            ask(b, f"b{rest}", "peer", peer if number >= 0 else None)
            rtts += [one.rtt_ms for one in asker.peers() if one.rtt_ms is not None]
    rtt_ms = median(rtts) if rtts else 0.0
    return Result(
        rounds,
        local.median_first_ms,
        peer.median_first_ms,
        rtt_ms,
        local.median_first_ms + rtt_ms + TARGET_MS,
        median(local.gaps_ms),
        median(peer.gaps_ms),
        local.bursts,
        peer.bursts,
    )


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--gguf", type=Path)
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="dreamer-bench-") as scratch:
        result = run(Path(scratch), given.gguf, given.rounds)
    if given.json:
        print(json.dumps({**asdict(result), "good": result.good}))
        return
    print(f"median of {result.rounds} requests, in turns")
    print(f"  first token, on the peer itself   {result.local_first_ms:8.1f} ms")
    print(f"  first token, through the peer     {result.peer_first_ms:8.1f} ms")
    print(f"  round trip of the link            {result.rtt_ms:8.1f} ms")
    within = "within" if result.good else "OVER"
    print(f"  allowed: local + 1 RTT + {TARGET_MS:.0f} ms    {result.allowed_ms:8.1f} ms: {within}")
    gaps, bursts = (
        (result.local_gap_ms, result.peer_gap_ms),
        (result.local_bursts, result.peer_bursts),
    )
    print("  gap between tokens, local / peer  {:6.2f} / {:.2f} ms".format(*gaps))
    print("  tokens in bursts, local / peer    {:6.1%} / {:.1%}".format(*bursts))


if __name__ == "__main__":
    main()
