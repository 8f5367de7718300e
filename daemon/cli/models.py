"""``dreamer models``, ``alias …``, ``tag …``, ``rm``: what there is and what it is called."""

from __future__ import annotations

import json
import time
from contextlib import closing
from functools import partial
from typing import Annotated

import typer

from dreamer.daemon.cli import catalogue, tables
from dreamer.daemon.cli.arguments import Alias, Ref, RoomOption
from dreamer.daemon.cli.command import command, group
from dreamer.daemon.cli.plain_text import size
from dreamer.daemon.cli.session import Session
from dreamer.daemon.rest.json_form import to_json

Tags = Annotated[list[str], typer.Argument(metavar="TAG…")]


def models(
    session: Session,
    query: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="QUERY",
            help="Such as 'tag:validated and type:decoder and metrics.val_loss < 0.03'.",
        ),
    ] = None,
    room: RoomOption = None,
    watch: Annotated[
        bool, typer.Option("--watch", help="Go on, and print them again whenever they change.")
    ] = False,
) -> None:
    """List the models of the rooms, or those that QUERY means."""
    text = " ".join(query or ())
    if watch:
        _watch(session, text, room)
        return
    found = session.client.models(room, text)
    value = {"models": [to_json(model) for model in found]}
    session.show(value, lambda: tables.models(found, text))


def _watch(session: Session, query: str, room: str | None) -> None:
    with closing(session.client.catalogue.watch(query, room)) as lists:
        for found in lists:
            value = {"models": [to_json(model) for model in found]}
            if session.as_json:
                # One document a line: there is no end at which they could be one.
                session.write(json.dumps(value) + "\n")
            else:
                session.write(f"{time.strftime('%H:%M:%S')}\n")
                session.show(value, partial(tables.models, found, query))


def show(session: Session, ref: Ref, room: RoomOption = None) -> None:
    """Say all that the room knows of the model REF."""
    model = session.client.catalogue.show(ref, room)
    session.show(to_json(model), lambda: tables.model(model))


def alias_set(
    session: Session,
    alias: Alias,
    ref: Ref,
    room: RoomOption = None,
    expect: Annotated[
        str | None,
        typer.Option(
            metavar="REF", help="Only if ALIAS means this now; 'none': if it means nothing."
        ),
    ] = None,
) -> None:
    """Make ALIAS mean the model REF."""
    model = session.client.set_alias(alias, ref, room, expect)
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
    command(app, "show")(show)
    aliases = group("Names for models, moved from one to the next.")
    command(aliases, "set")(alias_set)
    command(aliases, "rm")(alias_rm)
    catalogue.add_to(app, aliases)
    app.add_typer(aliases, name="alias")
    tags = group("Tags of models; tag:NAME finds them again.")
    command(tags, "add")(tag_add)
    command(tags, "rm")(tag_rm)
    app.add_typer(tags, name="tag")
    command(app, "rm")(remove)
