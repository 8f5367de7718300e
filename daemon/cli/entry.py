"""The whole command line: its commands put together."""

from __future__ import annotations

from collections.abc import Sequence

import typer

from dreamer.daemon.cli import (
    connect,
    cost,
    export,
    inference,
    models,
    moving,
    program,
    retention,
    rooms,
    store,
    worker,
)
from dreamer.daemon.cli.command import group


def make_cli() -> typer.Typer:
    """Return the ``dreamer`` command with all its commands."""
    app = group("Moves models between a team's machines, peer to peer, and runs them.")
    moving.add_to(app)
    models.add_to(app)
    rooms.add_to(app)
    connect.add_to(app)
    export.add_to(app)
    cost.add_to(app)
    inference.add_to(app)
    worker.add_to(app)
    store.add_to(app)
    retention.add_to(app)
    return app


def run(argv: Sequence[str]) -> int:
    """Run one command line; return its exit status: 1 failure, 2 usage, 130 interrupted."""
    return program.run(make_cli, "dreamer", argv)
