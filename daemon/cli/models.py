"""``dreamer models``, ``alias …``, ``tag …``, ``rm``: what there is and what it is called."""

from __future__ import annotations

from typing import Annotated

import typer

from dreamer.daemon.cli import tables
from dreamer.daemon.cli.command import command, group
from dreamer.daemon.cli.plain_text import size
from dreamer.daemon.cli.session import Session
from dreamer.daemon.rest.json_form import to_json

Ref = Annotated[
    str, typer.Argument(metavar="REF", help="An alias, tag:NAME, or the start of an id.")
]
RoomOption = Annotated[
    str | None,
    typer.Option("--room", metavar="NAME", help="The room; not needed when there is one."),
]
Alias = Annotated[str, typer.Argument(metavar="ALIAS")]
Tags = Annotated[list[str], typer.Argument(metavar="TAG…")]


def models(session: Session, room: RoomOption = None) -> None:
    """List the models of the rooms and of this machine."""
    found = session.client.models(room)
    session.show({"models": [to_json(model) for model in found]}, lambda: tables.models(found))


def alias_set(session: Session, alias: Alias, ref: Ref, room: RoomOption = None) -> None:
    """Make ALIAS mean the model REF."""
    model = session.client.set_alias(alias, ref, room)
    session.show(to_json(model), lambda: f"{alias} means {model.short_id}")


def alias_rm(session: Session, alias: Alias, room: RoomOption = None) -> None:
    """Remove ALIAS; its model stays."""
    session.client.remove_alias(alias, room)
    session.show({"removed": alias}, lambda: f"removed alias {alias}")


def tag_add(session: Session, ref: Ref, tag: Tags, room: RoomOption = None) -> None:
    """Add tags to the model REF."""
    model = session.client.change_tags(ref, add=tag, room=room)
    session.show(to_json(model), lambda: f"{model.short_id} has tags: {', '.join(model.tags)}")


def tag_rm(session: Session, ref: Ref, tag: Tags, room: RoomOption = None) -> None:
    """Remove tags from the model REF."""
    model = session.client.change_tags(ref, remove=tag, room=room)
    session.show(to_json(model), lambda: f"{model.short_id} has tags: {', '.join(model.tags)}")


def remove(session: Session, ref: Ref, room: RoomOption = None) -> None:
    """Remove this machine's copy of the model REF; the room still has it."""
    freed = session.client.remove(ref, room)
    session.show({"freed_bytes": freed}, lambda: f"freed {size(freed)}")


def add_to(app: typer.Typer) -> None:
    """Add these commands."""
    command(app, "models")(models)
    aliases = group("Names for models, moved from one to the next.")
    command(aliases, "set")(alias_set)
    command(aliases, "rm")(alias_rm)
    app.add_typer(aliases, name="alias")
    tags = group("Tags of models; tag:NAME finds them again.")
    command(tags, "add")(tag_add)
    command(tags, "rm")(tag_rm)
    app.add_typer(tags, name="tag")
    command(app, "rm")(remove)
