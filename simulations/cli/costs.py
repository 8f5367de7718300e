"""``dreamer-sim costs``: a month of a team's models, priced three ways."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from dreamer.daemon.cli.session import Session
from dreamer.simulations.cli.command import command


def add_to(app: typer.Typer) -> None:
    """Add this module's command."""
    command(app, "costs")(costs)


def costs(
    session: Session,
    prices: Annotated[
        Path | None, typer.Option(metavar="FILE.toml", help="Your prices, as in prices.toml.")
    ] = None,
    workload: Annotated[
        Path | None, typer.Option(metavar="FILE.toml", help="Your team, as in workload.toml.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, metavar="S", help="Another month.")] = 1,
    users: Annotated[
        int, typer.Option(min=0, metavar="N", help="Simulate so many people and scale up; 0: all.")
    ] = 0,
    sensitivity: Annotated[
        bool, typer.Option("--sensitivity", help="Vary each assumption too (some minutes).")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Write JSON and pictures there.")
    ] = None,
) -> int:
    """What a month of models costs: everything from S3, with caches, with peers."""
    from rich.console import Group

    from dreamer.simulations.costs import study
    from dreamer.simulations.costs.bill import COMMITTED as PRICES
    from dreamer.simulations.costs.bill import load_prices
    from dreamer.simulations.costs.workload import COMMITTED as WORKLOAD
    from dreamer.simulations.costs.workload import load_workload
    from dreamer.simulations.report.canvas import require_pictures

    if out is not None:
        # Before minutes are spent, not after.
        require_pictures()
    team, priced = load_workload(workload or WORKLOAD), load_prices(prices or PRICES)
    result = study.run_study(team, priced, seed, users, sensitivity, session.say)
    if out is not None:
        study.write_study(result, out)
    session.show(asdict(result), lambda: Group(*study.cost_tables(result)))
    return 1 if any(way.traffic.unfinished for way in result.ways) else 0
