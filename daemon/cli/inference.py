"""``dreamer ps``: the models that this node runs."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from dreamer.daemon.cli.command import command
from dreamer.daemon.cli.plain_text import size
from dreamer.daemon.cli.session import Session
from dreamer.daemon.cli.tables import below, cell, table
from dreamer.daemon.rest.json_form import to_json
from dreamer.daemon.surfaces.inference import (
    GpuInfo,
    InferenceReport,
    ModelStatistics,
    PoolInfo,
    WorkerStatistics,
)

if TYPE_CHECKING:
    from rich.console import RenderableType

NAME_MAX_CHARS = 14
"""What leaves the other columns their place in a line of 80."""


def ps(
    session: Session,
    all_: Annotated[
        bool, typer.Option("--all", "-a", help="Also models that are not loaded any more.")
    ] = False,
    workers: Annotated[
        bool, typer.Option("--workers", "-w", help="Each worker process, too.")
    ] = False,
) -> None:
    """Which models are loaded, on what, how busy they are and for how long they stay.

    in/s and out/s are tokens a second of prompts and of answers, lately. With --json: every
    count since the daemon started.
    """
    found = session.client.inference.report()
    session.show(to_json(found), lambda: below(*_lines(found, all_, workers)))


def _lines(found: InferenceReport, all_: bool, workers: bool) -> Iterator[RenderableType]:
    shown = [one for one in found.models if all_ or one.workers]
    if shown:
        header = "model on memory run wait asked fail in/s out/s until"
        yield table(header, (_row(one) for one in shown))
    else:
        yield "no model is loaded; it is by the first request, such as: dreamer run MODEL"
    if workers and any(one.workers for one in shown):
        rows = (_worker_row(one, each) for one in shown for each in one.workers)
        yield table("worker model device memory gpu run asked in/s out/s", rows)
    if found.pool.gpus:
        yield table("gpu name memory free busy workers", map(_gpu_row, found.pool.gpus))
    yield cell(_summary(found.pool))


def _row(one: ModelStatistics) -> tuple[str, ...]:
    read, write = _fastest(one.workers)
    return (
        _short(one.name),
        _where(one.workers),
        size(one.memory_bytes) if one.workers else "",
        *(str(one.running), str(one.queued), str(one.requests), str(one.failures)),
        *(read, write, _until(one)),
    )


def _worker_row(model: ModelStatistics, one: WorkerStatistics) -> tuple[str, ...]:
    return (
        *(str(one.pid), _short(model.name), one.device, size(one.memory_bytes)),
        size(one.gpu_memory_bytes) if one.gpu_memory_bytes else "",
        *(str(one.running), str(one.requests)),
        *(_rate(one.prefill_tokens_s), _rate(one.decode_tokens_s)),
    )


def _gpu_row(one: GpuInfo) -> tuple[str, ...]:
    return (
        *(one.device, one.name, size(one.memory_bytes), size(one.free_bytes)),
        *(f"{one.busy:.0%}", str(one.workers)),
    )


def _short(name: str) -> str:
    return name if len(name) <= NAME_MAX_CHARS else name[: NAME_MAX_CHARS - 1] + "…"


def _where(workers: Sequence[WorkerStatistics]) -> str:
    """Return the devices: ``cpu``, ``cuda:0 x4``, ``cuda:0+1 x4``."""
    if not workers:
        return "-"
    devices = sorted({one.device for one in workers})
    shown = devices[0] if len(devices) == 1 else f"{devices[0]}+{len(devices) - 1}"
    return shown if len(workers) == 1 else f"{shown} x{len(workers)}"


def _fastest(workers: Sequence[WorkerStatistics]) -> tuple[str, str]:
    read = max((one.prefill_tokens_s for one in workers), default=0.0)
    write = max((one.decode_tokens_s for one in workers), default=0.0)
    return _rate(read), _rate(write)


def _rate(tokens_s: float) -> str:
    return f"{tokens_s:.0f}" if tokens_s else ""


def _until(one: ModelStatistics) -> str:
    if not one.workers:
        return ""
    if one.pinned or one.expires_at is None:
        return "stays"
    left_s = max(0.0, one.expires_at - time.time())
    return f"{left_s:.0f}s" if left_s < 120 else f"{left_s / 60:.0f}min"


def _summary(pool: PoolInfo) -> str:
    spare = "no worker is ready for another model"
    if pool.spare_workers:
        spare = f"ready for another model: {pool.spare_workers} ({size(pool.spare_memory_bytes)})"
    return f"{pool.queued} of at most {pool.queue_max} requests wait; {spare}"


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "ps")(ps)
