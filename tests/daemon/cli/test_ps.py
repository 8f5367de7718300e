"""The tables of `dreamer ps`, drawn for a line of 80."""

from __future__ import annotations

import time

from rich.console import Console

from dreamer.daemon.cli.inference import _lines
from dreamer.daemon.surfaces.inference import (
    GpuInfo,
    InferenceReport,
    ModelStatistics,
    PoolInfo,
    WorkerStatistics,
)


def worker(pid: int, device: str) -> WorkerStatistics:
    return WorkerStatistics(pid, device, 900 * 2**20, 2**30, 9, 2, 1234.0, 101.5)


def model(
    name: str, *workers: WorkerStatistics, pinned: bool = False, left_s: float = 290.0
) -> ModelStatistics:
    memory = sum(one.memory_bytes for one in workers)
    return ModelStatistics(
        *("ab" * 32, name, "decoder", workers, memory, pinned, time.time() + left_s),
        *(1, 2, 1234, 3, 10, 0, 20, 0.5, 0.25, 0.75, 1, 0.9, 0, 2048),
    )


def drawn(report: InferenceReport, *, all_: bool = False, workers: bool = False) -> str:
    console = Console(width=80, record=True, file=None, no_color=True, quiet=False)
    with console.capture() as captured:
        for part in _lines(report, all_, workers):
            console.print(part)
    return captured.get()


POOL = PoolInfo(2, 200, 1, 70 * 2**20)


def test_models_fit_in_a_line_each() -> None:
    models = (
        model("a-name-that-is-much-too-long-for-a-column", worker(4711, "cpu")),
        model("two", worker(1, "cuda:0"), worker(2, "cuda:0"), pinned=True),
    )
    said = drawn(InferenceReport(POOL, models)).splitlines()
    assert len(said) == 4
    assert said[1].startswith("a-name-that-i…")
    assert said[1].rstrip().endswith("5min")
    assert "cuda:0 x2" in said[2]
    assert said[2].rstrip().endswith("stays")
    assert said[3].startswith("2 of at most 200 requests wait")


def test_models_that_left_are_shown_when_asked_for() -> None:
    report = InferenceReport(POOL, (model("gone"),))
    assert "no model is loaded" in drawn(report)
    assert "gone" in drawn(report, all_=True)


def test_workers_and_gpus_have_tables_of_their_own() -> None:
    gpu = GpuInfo("cuda:0", "NVIDIA H200", 140 * 2**30, 100 * 2**30, 0.25, 1)
    pool = PoolInfo(0, 200, 0, 0, (gpu,))
    said = drawn(InferenceReport(pool, (model("m", worker(4711, "cuda:0")),)), workers=True)
    assert "4711" in said
    assert "NVIDIA H200" in said
    assert "25%" in said
    assert "no worker is ready for another model" in said
    assert all(len(line.rstrip()) <= 80 for line in said.splitlines())
