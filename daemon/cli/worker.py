"""``dreamer ready`` and ``dreamer env``: for scripts around a daemon."""

from __future__ import annotations

import json
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from dreamer.daemon.cli.command import command
from dreamer.daemon.cli.plain_text import duration_s, size
from dreamer.daemon.cli.session import Session
from dreamer.daemon.cli.tables import below, cell, table
from dreamer.daemon.rest.json_form import to_json
from dreamer.daemon.surfaces.readiness import PreloadInfo, ReadyInfo
from dreamer.protocol.errors import LocalError

if TYPE_CHECKING:
    from rich.console import RenderableType

_NOT_READY = 1
_A_LONG_TIME_S = 10 * 365 * 86_400.0

Shell = Literal["sh", "fish", "json"]


def ready(
    session: Session,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait until it is; also for its daemon to start.")
    ] = False,
    timeout: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="With --wait: no longer than this, such as 90s or 30m."),
    ] = None,
) -> int | None:
    """Say whether this node is ready; the exit status is 0 if so, else 1."""
    if timeout is not None and not wait:
        raise typer.BadParameter("--timeout goes with --wait")
    readiness = session.client.readiness
    if wait:
        found = readiness.wait(_A_LONG_TIME_S if timeout is None else duration_s(timeout))
    else:
        found = readiness.info()
    session.show(to_json(found), lambda: _readiness(found))
    return None if found.ready else _NOT_READY


def _readiness(found: ReadyInfo) -> RenderableType:
    head = "ready" if found.ready else "not ready; it waits for"
    parts: list[RenderableType] = [cell(head), *(cell(f"  {one}") for one in found.waiting_for)]
    if found.preload:
        rows = (
            (one.ref, one.state, one.manifest_id[:8], one.name, _here(one), one.note)
            for one in found.preload
        )
        parts.append(table("model state id name here note", rows))
    return below(*parts)


def _here(one: PreloadInfo) -> str:
    if one.state == "ready":
        return "loaded" if one.loaded else size(one.total)
    return f"{size(one.done)} of {size(one.total)}"


def env(
    session: Session,
    shell: Annotated[
        Shell, typer.Option(help="For whom: a POSIX shell, fish, or a program.")
    ] = "sh",
) -> None:
    """Print variables that put the caches of other libraries beside the models.

    Use it as: eval "$(dreamer env)"; in fish: dreamer env --shell fish | source
    """
    from dreamer.daemon.worker.cache_places import cache_variables

    variables = cache_variables(_models_dir(session), _own_home(), os.environ)
    if session.as_json or shell == "json":
        session.write(json.dumps(variables, indent=2) + "\n")
        return
    write = _in_fish if shell == "fish" else _in_sh
    session.write("".join(write(name, value) for name, value in variables.items()))


def _in_sh(name: str, value: str) -> str:
    return f"export {name}={shlex.quote(value)}\n"


def _in_fish(name: str, value: str) -> str:
    # Between single quotes fish knows two escapes, \' and \\.
    quoted = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"set -gx {name} '{quoted}'\n"


def _own_home() -> Path:
    try:
        return Path.home()
    except RuntimeError:
        # A container may run as a user that no passwd file knows, with no HOME.
        return Path("/")


def _models_dir(session: Session) -> Path:
    """Return the store of the daemon that runs, else of the one that would: scripts come first."""
    try:
        return Path(session.client.status()["store"]["path"])
    except LocalError:
        from dreamer.daemon.worker.settling import settle

        settled = settle(session.home, None, dict(os.environ))
        return settled.places.models_dir


def add_to(app: typer.Typer) -> None:
    """Add these commands."""
    command(app, "ready")(ready)
    command(app, "env")(env)
