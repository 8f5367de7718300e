"""The whole command line: its commands put together."""

from __future__ import annotations

from collections.abc import Sequence

import typer

from dreamer.daemon.cli import program
from dreamer.simulations.cli import capacity, comparing, costs, fuzzing, listing, running, whatif
from dreamer.simulations.cli.command import PROGRAM, group


def make_cli() -> typer.Typer:
    """Return the ``dreamer-sim`` command with all its commands."""
    app = group("Simulates swarms: the daemons' own protocol on a virtual network and clock.")
    listing.add_to(app)
    running.add_to(app)
    comparing.add_to(app)
    whatif.add_to(app)
    fuzzing.add_to(app)
    costs.add_to(app)
    capacity.add_to(app)
    return app


def run(argv: Sequence[str]) -> int:
    """Run one command line; return its exit status: 1 failure, 2 usage, 130 interrupted."""
    return program.run(make_cli, PROGRAM, argv)
