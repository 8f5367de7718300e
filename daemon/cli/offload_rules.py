"""``dreamer room offload``: who in a room may have whom run models."""

from __future__ import annotations

from typing import Annotated

import typer

from dreamer.daemon.cli.command import command
from dreamer.daemon.cli.session import Session
from dreamer.daemon.cli.tables import cell
from dreamer.daemon.rest.json_form import to_json
from dreamer.protocol.errors import InputError


def offload(
    session: Session,
    room: Annotated[
        str | None,
        typer.Argument(metavar="[ROOM]", help="The room; not needed when there is one."),
    ] = None,
    allow: Annotated[
        list[str] | None,
        typer.Option(
            "--allow", metavar="ASKER=SERVER,…", help="Roles, as member=worker; repeatable."
        ),
    ] = None,
    nobody: Annotated[
        bool, typer.Option("--nobody", help="Nobody may have others run models.")
    ] = False,
    clear: Annotated[bool, typer.Option("--clear", help="Leave it to each node.")] = False,
) -> None:
    """Show who may have whom run models in a room, or set it (admins)."""
    if bool(allow) + nobody + clear > 1:
        raise InputError("--allow, --nobody and --clear exclude each other: give one of them")
    if allow or nobody or clear:
        found = session.client.offload_rules.set_rules(None if clear else allow or [], room)
    else:
        found = session.client.offload_rules.rules(room)
    session.show(to_json(found), lambda: cell(f"{found.room}: {found.said}"))


def add_to_rooms(rooms: typer.Typer) -> None:
    """Add the command below ``dreamer room``."""
    command(rooms, "offload")(offload)
