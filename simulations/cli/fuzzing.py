"""``dreamer-sim fuzz``: scenarios by chance, until one breaks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dreamer.daemon.cli.session import Session
from dreamer.simulations.cli.command import command


def add_to(app: typer.Typer) -> None:
    """Add this module's command."""
    command(app, "fuzz")(fuzz)


def fuzz(
    session: Session,
    hours: Annotated[float, typer.Option(min=0.001, metavar="H", help="So long, in real time.")],
    seed: Annotated[int, typer.Option(min=0, metavar="S", help="Of what is drawn.")] = 1,
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Where findings go; else simulations/regressions/."),
    ] = None,
) -> int:
    """Draw scenarios and seeds, shrink what fails to something small, and write it to a file."""
    from dreamer.simulations.fuzz import search

    found = search.fuzz(hours, out, seed, session.say)
    session.show(
        {"found": [str(path) for path in found]},
        lambda: "\n".join(map(str, found)) or "nothing was found to break",
    )
    return 1 if found else 0
