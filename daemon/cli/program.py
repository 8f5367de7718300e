"""Runs one command line of a program, and reports mistakes in its use."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import typer

from dreamer.daemon.cli.session import INTERRUPTED, Session

_USAGE = 2


def run(make_cli: Callable[[], typer.Typer], program: str, argv: Sequence[str]) -> int:
    """Run one command line; return its exit status: 1 failure, 2 usage, 130 interrupted."""
    # Known before parsing, because a mistake in parsing must be reported as JSON too.
    session = Session(argv, as_json="--json" in argv, program=program)
    try:
        status = make_cli()(list(argv), prog_name=program, obj=session, standalone_mode=False)
    except typer.TyperException as error:
        return _misused(session, error)
    except (KeyboardInterrupt, typer.Abort):
        session.interrupted()
        return INTERRUPTED
    return status if isinstance(status, int) else 0


def _misused(session: Session, error: typer.TyperException) -> int:
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else session.program
    session.fail("usage", f"{error.format_message().rstrip('.')}; see: {path} --help")
    return _USAGE
