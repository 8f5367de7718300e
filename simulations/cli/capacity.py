"""``dreamer-sim capacity``: how many users a pool of GPUs holds."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from dreamer.daemon.cli.session import Session
from dreamer.protocol.errors import InputError
from dreamer.simulations.cli.command import command

_OF_A_LAN_S = (0.001, 0.005)
"""Round trips to several nodes: without any, all users would have the same order of them."""


def add_to(app: typer.Typer) -> None:
    """Add this module's command."""
    command(app, "capacity")(capacity)


def capacity(
    session: Session,
    frames: Annotated[
        float, typer.Option(min=1, metavar="F", help="Frames a second of all nodes together.")
    ] = 4800,
    nodes: Annotated[
        int, typer.Option(min=1, max=1000, metavar="N", help="Nodes of a queue each.")
    ] = 1,
    users: Annotated[str, typer.Option(metavar="A,B,…", help="Numbers of users, rising.")] = "",
    seeds: Annotated[int, typer.Option(min=1, max=1000, help="Runs of each.")] = 20,
    seconds: Annotated[float, typer.Option(min=1, help="Virtual seconds of a run.")] = 200,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write JSON and pictures there.")
    ] = None,
) -> None:
    """Queue, wait and loss by number of users (25 frames/s, 27% duty), and where that breaks."""
    from dreamer.simulations.capacity import study
    from dreamer.simulations.capacity.gpus import GpuPool
    from dreamer.simulations.report.canvas import require_pictures

    if out is not None:
        require_pictures()
    low_s, high_s = (0.0, 0.0) if nodes == 1 else _OF_A_LAN_S
    result = study.run_capacity(
        GpuPool(frames, nodes, low_s, high_s),
        counts=_counts(users) if users else study.USERS,
        seeds=range(1, seeds + 1),
        seconds=seconds,
        report=session.say,
    )
    if out is not None:
        study.write_capacity(result, out)
    session.show(asdict(result), lambda: study.capacity_table(result))


def _counts(text: str) -> list[int]:
    """Return the numbers of users of the command line.

    Raises:
        InputError: they are no rising whole numbers.
    """
    try:
        counts = [int(part) for part in text.split(",")]
    except ValueError:
        counts = []
    if not counts or counts[0] < 1 or counts != sorted(set(counts)):
        raise InputError(f"--users takes rising numbers like 500,600,700, not {text!r:.60}")
    return counts
