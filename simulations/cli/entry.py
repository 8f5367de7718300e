"""The whole command line: its commands put together, and mistakes in its use reported."""

from __future__ import annotations

from collections.abc import Sequence

import typer

from dreamer.daemon.cli.session import INTERRUPTED, Session
from dreamer.simulations.cli import capacity, comparing, costs, fuzzing, listing, running, whatif
from dreamer.simulations.cli.command import PROGRAM, group

_USAGE = 2


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
    # Known before parsing, because a mistake in parsing must be reported as JSON too.
    session = Session(argv, as_json="--json" in argv, program=PROGRAM)
    try:
        status = make_cli()(list(argv), prog_name=PROGRAM, obj=session, standalone_mode=False)
    except typer.TyperException as error:
        return _misused(session, error)
    except (KeyboardInterrupt, typer.Abort):
        session.interrupted()
        return INTERRUPTED
    return status if isinstance(status, int) else 0


def _misused(session: Session, error: typer.TyperException) -> int:
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else PROGRAM
    session.fail("usage", f"{error.format_message().rstrip('.')}; see: {path} --help")
    return _USAGE
