"""The studies of capacity, run and written: what ``dreamer-sim capacity`` and ``run offload`` do.

A result is plain values: ``asdict`` is its JSON.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from dreamer.simulations.capacity.curve import CapacityResult, Criterion, capacity_curve
from dreamer.simulations.capacity.day import OffloadResult, run_day
from dreamer.simulations.capacity.drawn import capacity_pictures, offload_pictures
from dreamer.simulations.capacity.gpus import GpuPool
from dreamer.simulations.capacity.offload_spec import Offload
from dreamer.simulations.capacity.tables import capacity_table, offload_tables
from dreamer.simulations.capacity.users import Users
from dreamer.simulations.report.pictures import Picture

__all__ = [
    "capacity_table",
    "offload_tables",
    "run_capacity",
    "run_offload",
    "write_capacity",
    "write_offload",
]

# Closest where one queue of 4,800 frames/s stops holding.
USERS = (500, 550, 600, 640, 670, 690, 700, 710, 730, 760, 800, 850, 900)
SECONDS = 200.0
SEEDS = 20
"""So many that the loss at 710 users is known within a third of a percent: users come and go within
seconds, so minutes of them are few independent looks."""


def run_capacity(
    pool: GpuPool | None = None,
    users: Users | None = None,
    counts: Sequence[int] = USERS,
    seeds: Sequence[int] = tuple(range(1, SEEDS + 1)),
    seconds: float = SECONDS,
    criterion: Criterion | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> CapacityResult:
    """Return the curve of a pool, by default of 4,800 frames/s in one queue."""
    return capacity_curve(
        pool or GpuPool(),
        users or Users(0),
        counts,
        seeds,
        seconds,
        criterion or Criterion(),
        report,
    )


def run_offload(
    offload: Offload, seed: int, report: Callable[[str], None] = lambda line: None
) -> OffloadResult:
    """Return a day of requests, and the same day with one GPU node less and one more."""
    return run_day(offload, seed, report)


def write_capacity(result: CapacityResult, folder: Path) -> None:
    """Write the curve as JSON and pictures into a folder, which is made."""
    _write("capacity", asdict(result), capacity_pictures(result), folder)


def write_offload(result: OffloadResult, folder: Path) -> None:
    """Write the day as JSON and pictures into a folder, which is made."""
    _write("offload", asdict(result), offload_pictures(result), folder)


def _write(name: str, values: object, pictures: Sequence[Picture], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / f"{name}.json").write_text(json.dumps(values, indent=2) + "\n", encoding="utf-8")
    for picture in pictures:
        (folder / f"{picture.name}.svg").write_text(picture.svg(), encoding="utf-8")
        (folder / f"{picture.name}.png").write_bytes(picture.png())
