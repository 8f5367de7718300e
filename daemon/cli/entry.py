"""The whole command line: its commands put together, and mistakes in its use reported."""

from __future__ import annotations

from collections.abc import Sequence

import typer

from dreamer.daemon.cli import connect, export, models, moving, rooms
from dreamer.daemon.cli.command import group
from dreamer.daemon.cli.session import INTERRUPTED, Session

_USAGE = 2


def make_cli() -> typer.Typer:
    """Return the ``dreamer`` command with all its commands."""
    app = group("Moves models between a team's machines, peer to peer, and runs them.")
    moving.add_to(app)
    models.add_to(app)
    rooms.add_to(app)
    connect.add_to(app)
    export.add_to(app)
    return app


def run(argv: Sequence[str]) -> int:
    """Run one command line; return its exit status: 1 failure, 2 usage, 130 interrupted."""
    # Known before parsing, because a mistake in parsing must be reported as JSON too.
    session = Session(argv, as_json="--json" in argv)
    try:
        status = make_cli()(list(argv), prog_name="dreamer", obj=session, standalone_mode=False)
    except typer.TyperException as error:
        return _misused(session, error)
    except (KeyboardInterrupt, typer.Abort):
        session.interrupted()
        return INTERRUPTED
    return status if isinstance(status, int) else 0


def _misused(session: Session, error: typer.TyperException) -> int:
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "dreamer"
    session.fail("usage", f"{error.format_message().rstrip('.')}; see: {path} --help")
    return _USAGE
