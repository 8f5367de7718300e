"""What the benchmarks read off running nodes: memory, processor time, lag, percentiles."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from dreamer.daemon.loop_lag import BUCKETS_S

MIB = 1024 * 1024

WEBRTC_ONLY = {"DREAMER_NETWORK_DIRECT_LISTEN": ""}
"""For the environment of a node that shall have no direct lane."""


@dataclass(frozen=True)
class Spread:
    """Percentiles of a measured time, in ms."""

    count: int
    p50: float
    p99: float
    most: float

    @classmethod
    def of(cls, seconds: Sequence[float]) -> Spread:
        """Return the percentiles of these times (nearest rank); zeros if there are none."""
        ordered = sorted(seconds)
        if not ordered:
            return cls(0, 0.0, 0.0, 0.0)

        def rank(share: float) -> float:
            return round(1000 * ordered[max(0, math.ceil(share * len(ordered)) - 1)], 2)

        return cls(len(ordered), rank(0.5), rank(0.99), rank(1.0))


def family(pid: int) -> list[psutil.Process]:
    """Return a process and all that it has started."""
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


def resident_mib(pid: int) -> float:
    """Return the resident memory of a process and its children, in MiB."""
    return sum(_resident(each) for each in family(pid)) / MIB


def proportional_mib(pid: int) -> float:
    """Return what a process and its children hold in MiB, shared pages by their share (PSS)."""
    return sum(_proportional(each) for each in family(pid)) / MIB


def _proportional(process: psutil.Process) -> int:
    try:
        return int(process.memory_full_info().pss)
    except psutil.NoSuchProcess:
        return 0


def _resident(process: psutil.Process) -> int:
    try:
        return int(process.memory_info().rss)
    except psutil.NoSuchProcess:
        return 0


def cpu_seconds(pid: int) -> float:
    """Return the processor time that a process and its children have taken so far."""
    return sum(_cpu_seconds(each) for each in family(pid))


def _cpu_seconds(process: psutil.Process) -> float:
    try:
        times = process.cpu_times()
    except psutil.NoSuchProcess:
        return 0.0
    return float(times.user + times.system)


def lag_p99_ms(before: dict[str, Any], after: dict[str, Any]) -> float:
    """Return a bound of the p99 of a daemon's loop lag between two answers of ``status``.

    It is the upper end of the histogram's bucket that the percentile falls into; infinite in the
    last one.
    """
    counts = [
        late - early
        for early, late in zip(before["loop_lag"]["beats"], after["loop_lag"]["beats"], strict=True)
    ]
    left = math.ceil(0.99 * sum(counts))
    for bound, count in zip((*BUCKETS_S, math.inf), counts, strict=True):
        left -= count
        if left <= 0:
            return bound * 1000
    return math.inf


def write_model(path: Path, size: int) -> None:
    """Write one file of random bytes: nothing in it is the same twice."""
    path.mkdir()
    with (path / "weights.bin").open("wb") as file:
        for _ in range(size // MIB):
            file.write(os.urandom(MIB))
