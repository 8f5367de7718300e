"""Gives every command ``--json``, and ends failures and Ctrl-C in one line and a status.

A command is written as ``def body(session: Session, …) -> int | None``; typer sees the rest of its
parameters. What it returns is its exit status; nothing is success.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Annotated, Any

import typer

from dreamer.daemon.cli.session import INTERRUPTED, Session
from dreamer.protocol.errors import DreamerError

Body = Callable[..., int | None]

PROGRAM = "dreamer-sim"

JsonOption = Annotated[
    bool, typer.Option("--json", help="One JSON document on stdout, progress on stderr.")
]


def group(doc: str) -> typer.Typer:
    """Return an empty group of commands."""
    made = typer.Typer(
        help=doc, rich_markup_mode=None, add_completion=False, pretty_exceptions_enable=False
    )

    def options(context: typer.Context, as_json: JsonOption = False) -> None:
        _session(context, as_json)
        if context.invoked_subcommand is None:
            typer.echo(context.get_help())

    options.__doc__ = doc
    made.callback(invoke_without_command=True)(options)
    return made


def command(app: typer.Typer, name: str) -> Callable[[Body], Body]:
    """Register the decorated function as command ``name`` of ``app``."""

    def register(body: Body) -> Body:
        def call(context: typer.Context, as_json: bool, **options: Any) -> None:
            _run(_session(context, as_json), body, options)

        _give_signature(call, body)
        call.__doc__ = body.__doc__
        app.command(name)(call)
        return body

    return register


def _give_signature(call: Callable[..., None], body: Body) -> None:
    """Let typer see the parameters of ``body``, with ``--json`` in place of its session."""
    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [
        inspect.Parameter("context", keyword, annotation=typer.Context),
        *(
            one.replace(kind=keyword)
            for one in list(inspect.signature(body, eval_str=True).parameters.values())[1:]
        ),
        inspect.Parameter("as_json", keyword, default=False, annotation=JsonOption),
    ]
    # typer reads the signature and, separately, the annotations.
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    call.__annotations__ = {one.name: one.annotation for one in parameters}


def _session(context: typer.Context, as_json: bool) -> Session:
    session = context.find_root().obj
    assert isinstance(session, Session)
    session.as_json = as_json or session.as_json
    return session


def _run(session: Session, body: Body, options: dict[str, Any]) -> None:
    try:
        status = body(session, **options)
    except DreamerError as error:
        session.failed(error)
        raise typer.Exit(1) from error
    except KeyboardInterrupt as error:
        session.interrupted()
        raise typer.Exit(INTERRUPTED) from error
    if status:
        raise typer.Exit(status)
