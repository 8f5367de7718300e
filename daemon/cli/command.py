"""Gives every command and group ``--home`` and ``--json``, before and after its name.

A command is written as ``def body(session: Session, …)``; typer sees the rest of its parameters and
these two. Failures and Ctrl-C end here, so that no command has to think of them.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable
from typing import Annotated, Any

import typer
from typer.core import TyperCommand

from dreamer.daemon.cli.session import INTERRUPTED, Session
from dreamer.protocol.errors import DreamerError

Body = Callable[..., int | None]
"""What a command returns is its exit status; nothing is success."""

HomeOption = Annotated[
    str | None,
    typer.Option("--home", metavar="DIR", help="Home of the dreamerd to talk to (DREAMER_HOME)."),
]
JsonOption = Annotated[
    bool, typer.Option("--json", help="One JSON document on stdout, progress on stderr.")
]


def group(doc: str, *, home: bool = True) -> typer.Typer:
    """Return an empty group of commands that takes the options of all commands itself.

    Args:
        home: whether there is a daemon to talk to: without ``--home`` where there is none.
    """
    made = typer.Typer(
        help=doc, rich_markup_mode=None, add_completion=False, pretty_exceptions_enable=False
    )

    def options(context: typer.Context, **shared: Any) -> None:
        _session(context, **shared)
        if context.invoked_subcommand is None:
            typer.echo(context.get_help())

    _give_signature(options, [], home=home)
    options.__doc__ = doc
    made.callback(invoke_without_command=True)(options)
    return made


def command(
    app: typer.Typer, name: str, *, home: bool = True, kind: type[TyperCommand] | None = None
) -> Callable[[Body], Body]:
    """Register the decorated function as command ``name`` of ``app``; ``home`` as for a group.

    ``kind`` reads a command line that typer alone can't.
    """

    def register(body: Body) -> Body:
        def call(
            context: typer.Context, as_json: bool, home: str | None = None, **options: Any
        ) -> None:
            _run(_session(context, as_json, home), body, options)

        own = list(inspect.signature(body, eval_str=True).parameters.values())[1:]
        _give_signature(call, own, home=home)
        call.__doc__ = body.__doc__
        app.command(name, cls=kind)(call)
        return body

    return register


def _give_signature(
    call: Callable[..., None], own: Iterable[inspect.Parameter], *, home: bool
) -> None:
    """Let typer see a command's own parameters and, in place of its session, those of all."""
    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [
        inspect.Parameter("context", keyword, annotation=typer.Context),
        *(one.replace(kind=keyword) for one in own),
        inspect.Parameter("as_json", keyword, default=False, annotation=JsonOption),
    ]
    if home:
        told = inspect.Parameter("home", keyword, default=None, annotation=HomeOption)
        parameters.insert(-1, told)
    # typer reads the signature and, separately, the annotations.
    vars(call)["__signature__"] = inspect.Signature(parameters)
    call.__annotations__ = {one.name: one.annotation for one in parameters}


def _session(context: typer.Context, as_json: bool, home: str | None = None) -> Session:
    session = context.find_root().obj
    assert isinstance(session, Session)
    # The nearest to the command wins; what stood further left is kept.
    session.home = home or session.home
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
