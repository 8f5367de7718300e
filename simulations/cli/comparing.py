"""``dreamer-sim compare``: what changed between two runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from dreamer.daemon.cli.session import Session
from dreamer.simulations.cli.command import command


def add_to(app: typer.Typer) -> None:
    """Add this module's command."""
    command(app, "compare")(compare)


def compare(
    session: Session,
    one: Annotated[Path, typer.Argument(metavar="A", help="A report's folder, or a run's JSON.")],
    other: Annotated[Path, typer.Argument(metavar="B", help="Another one's.")],
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write a page with pictures there.")
    ] = None,
) -> None:
    """Compare two runs: each figure of A beside that of B, and by how much it changed."""
    from dreamer.simulations.report import compare as comparing
    from dreamer.simulations.report import files

    if out is not None:
        files.require_pictures()
    found = comparing.compare(comparing.load(one), comparing.load(other))
    if out is not None:
        session.say(f"report: {files.write_comparison(found, out)}")
    session.show(comparing.comparison_document(found), lambda: comparing.comparison_table(found))
