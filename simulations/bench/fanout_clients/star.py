"""The network of the benchmark: a switch, a seed, the nodes, and a tracker in nobody's way."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from dreamer.simulations.netlab.internet import Internet
from dreamer.simulations.netlab.lab import Host
from dreamer.simulations.netlab.services import Tracker

MIB = 2**20
TIMEOUT_OVER_BOUND = 6.0
"""How many times the lower bound somebody may take before it counts as stuck."""
FILE = "weights.bin"


@dataclass(frozen=True)
class Star:
    """The seed has ``source``, a folder with one file; every node wants it."""

    seed: Host
    nodes: tuple[Host, ...]
    tracker: Tracker
    source: Path
    scratch: Path
    timeout_s: float


@contextmanager
def star(scratch: Path, size: int, nodes: int, mbit: float) -> Iterator[Star]:
    """Build it. Links are shaped in both directions; the tracker's is not."""
    source = scratch / "source"
    source.mkdir()
    with (source / FILE).open("wb") as file:
        for _ in range(size // MIB):
            file.write(os.urandom(MIB))
    with Internet(scratch / "net") as net:
        tracker = net.tracker()
        hosts = [net.host(f"n{number}") for number in range(1 + nodes)]
        for host in hosts:
            host.plug.shape(mbit)
        timeout_s = 60 + TIMEOUT_OVER_BOUND * size * 8 / (mbit * 1e6)
        yield Star(hosts[0], tuple(hosts[1:]), tracker, source, scratch, timeout_s)
