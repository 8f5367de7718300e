"""One seed and eight nodes on 100 Mbit/s links: when has the last one all of it?

Usage: python -m dreamer.simulations.bench.fanout [--mib 1024] [--nodes 8] [--mbit 100]
       [--only NAME] [--json]

As root: every machine is a network namespace whose link is shaped in both directions. Dreamer (real
daemons, the direct lane), libtorrent and aria2 each move the same file over the same links, one
after the other. Time runs from the command to the last verified byte on the last disk, and stands
beside the lower bound max(F/u_s, F/d_min, N·F/(u_s + Σu_i)), in which u and d are the links' own
rates: headers count against whoever sends them.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from dreamer.simulations.bench.fanout_clients.aria2 import aria2
from dreamer.simulations.bench.fanout_clients.daemons import daemons
from dreamer.simulations.bench.fanout_clients.libtorrent import libtorrent
from dreamer.simulations.bench.fanout_clients.star import MIB, Star, star

TARGET = 1.15

CONTENDERS: Mapping[str, Callable[[Star], list[float]]] = {
    "dreamer": daemons,
    "libtorrent": libtorrent,
    "aria2": aria2,
}
"""Each returns the seconds after which each of the nodes had everything."""


@dataclass(frozen=True)
class Fanout:
    """Seconds until the first and the last node were done, and the last one's over the bound."""

    first_s: float
    last_s: float
    ratio: float


def lower_bound_s(size: int, nodes: int, mbit: float) -> float:
    """Return the least time in which ``nodes`` can get ``size`` bytes over equal links."""
    rate = mbit * 1e6 / 8
    # F/u_s, F/d_min and N·F/(u_s + Σu_i), where all u and d are the same.
    return max(size / rate, nodes * size / ((1 + nodes) * rate))


def run(names: list[str], size: int, nodes: int, mbit: float) -> dict[str, Fanout]:
    """Let each contender move a file of ``size`` bytes."""
    bound = lower_bound_s(size, nodes, mbit)
    found = {}
    for name in names:
        # Each in a network and on a disk of its own: nothing of one is left for the next.
        with (
            tempfile.TemporaryDirectory(prefix="fanout-") as scratch,
            star(Path(scratch), size, nodes, mbit) as network,
        ):
            seconds = CONTENDERS[name](network)
        found[name] = Fanout(min(seconds), max(seconds), max(seconds) / bound)
    return found


def main() -> None:
    """Run the benchmark and print its table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--mib", type=int, default=1024)
    parser.add_argument("--nodes", type=int, default=8)
    parser.add_argument("--mbit", type=float, default=100.0)
    parser.add_argument("--only", choices=sorted(CONTENDERS), help="this one alone")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    names = [given.only] if given.only else list(CONTENDERS)
    found = run(names, given.mib * MIB, given.nodes, given.mbit)
    bound = lower_bound_s(given.mib * MIB, given.nodes, given.mbit)
    if given.json:
        print(json.dumps({"bound_s": bound, **{name: asdict(one) for name, one in found.items()}}))
        return
    print(f"{given.mib} MiB, 1 → {given.nodes} at {given.mbit:g} Mbit/s; at least {bound:.1f} s")
    for name, one in found.items():
        print(f"{name:<11} first {one.first_s:6.1f} s, last {one.last_s:6.1f} s, {one.ratio:.2f}")
    if "dreamer" in found:
        print(f"target: at most {TARGET}, and both others behind")


if __name__ == "__main__":
    main()
