"""``dreamer upload`` and ``dreamer room policy|retain|gc``: what stays, and what goes when."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dreamer.daemon.cli.arguments import RoomOption
from dreamer.daemon.cli.command import command
from dreamer.daemon.cli.moving import last
from dreamer.daemon.cli.plain_text import duration_s, size
from dreamer.daemon.cli.session import Session
from dreamer.daemon.cli.tables import below, cell, table
from dreamer.daemon.ports import PushReceipt
from dreamer.daemon.rest.json_form import to_json
from dreamer.daemon.surfaces.retention import (
    GarbageReport,
    Judged,
    KeepRules,
    PolicyInfo,
    RetentionReport,
)
from dreamer.protocol.errors import InputError

if TYPE_CHECKING:
    from rich.console import RenderableType

RoomArgument = Annotated[
    str | None,
    typer.Argument(metavar="[ROOM]", help="The room; not needed when there is one."),
]
Apply = Annotated[bool, typer.Option("--apply/--dry-run", help="Do it; else only say what goes.")]


def upload(
    session: Session,
    path: Annotated[Path, typer.Argument(metavar="PATH", help="A file or directory.")],
    ttl: Annotated[
        str, typer.Option(metavar="TIME", help="How long the room has it, such as 24h or 7d.")
    ] = "24h",
    room: RoomOption = None,
    tag: Annotated[list[str] | None, typer.Option("--tag", metavar="T", help="Repeatable.")] = None,
    name: Annotated[str | None, typer.Option(help="Its name, else that of PATH.")] = None,
    allow_pickle: Annotated[
        bool,
        typer.Option(
            "--allow-pickle", help="Carry pickles too; they can run any code when loaded."
        ),
    ] = False,
) -> None:
    """Upload a dataset for a while: any member pulls it by the id that this prints."""
    events = session.client.retention.upload_events(
        *(path, duration_s(ttl), room, tag or (), name, allow_pickle)
    )
    receipt = last("upload", events)
    session.show(to_json(receipt), lambda: below(*map(cell, _uploaded(receipt))))


def policy(
    session: Session,
    room: RoomArgument = None,
    keep_last: Annotated[
        int | None, typer.Option(min=1, help="Keep the last N models that each alias meant.")
    ] = None,
    keep_tagged: Annotated[
        list[str] | None,
        typer.Option("--keep-tagged", metavar="TAG", help="Keep models with it; repeatable."),
    ] = None,
    keep_any_tag: Annotated[
        bool, typer.Option("--keep-any-tag", help="Keep models with any tag.")
    ] = False,
    max_age: Annotated[
        str | None, typer.Option(metavar="TIME", help="Keep models that are younger, as 90d.")
    ] = None,
    clear: Annotated[bool, typer.Option("--clear", help="No rules: keep everything.")] = False,
) -> None:
    """Show what a room keeps, or set it (admins): a model stays if any rule keeps it."""
    age_s = None if max_age is None else int(duration_s(max_age))
    rules = KeepRules(keep_last, tuple(keep_tagged or ()), keep_any_tag, age_s)
    if clear and rules != KeepRules():
        raise InputError("--clear stands alone: give the rules that are to hold, or --clear")
    if clear or rules != KeepRules():
        found = session.client.retention.set_policy(rules, room)
    else:
        found = session.client.retention.policy(room)
    session.show(to_json(found), lambda: below(*map(cell, _rules(found))))


def retain(session: Session, room: RoomArgument = None, apply: Apply = False) -> None:
    """Withdraw what the room's rules do not keep; without --apply, say what that would be."""
    found = session.client.retention.retain(room, apply)
    session.show(to_json(found), lambda: below(*_retained(found)))


def collect(
    session: Session,
    room: RoomArgument = None,
    apply: Apply = False,
    grace: Annotated[
        str,
        typer.Option(metavar="TIME", help="What is younger, or withdrawn no longer ago, stays."),
    ] = "24h",
) -> None:
    """Remove what no model of the room has from its origin; needs S3 credentials here."""
    grace_s = 0.0 if grace == "0" else duration_s(grace)
    found = session.client.retention.collect(room, apply, grace_s)
    session.show(to_json(found), lambda: below(*_collected(found)))
    if found.failed:
        session.say(f"{len(found.failed)} keys could not be removed: see the daemon's log")


def _uploaded(receipt: PushReceipt) -> Iterator[str]:
    ends = time.strftime("%Y-%m-%d %H:%M", time.localtime(receipt.expires_at or 0.0))
    yield f"uploaded {receipt.name} to {receipt.room} until {ends}: {receipt.short_id}"
    yield f"{receipt.files} files, {size(receipt.size_bytes)}, {receipt.seconds:.1f} s"
    yield f"get it with: dreamer pull {receipt.short_id}"
    if not receipt.origin:
        yield "the room has no origin: it can be pulled from this node alone, while it runs"
    elif receipt.origin_state == "queued":
        why = f" ({receipt.origin_error})" if receipt.origin_error else ""
        yield f"origin: queued{why}; this node uploads it by itself"


def _rules(found: PolicyInfo) -> Iterator[str]:
    if not found.said:
        yield f"room {found.room} keeps every model"
        return
    yield f"room {found.room} keeps what an alias means, and"
    for said in found.said:
        yield f"  {said}"
    yield "what else is older than a day goes with: dreamer room retain --apply"


def _retained(found: RetentionReport) -> Iterator[RenderableType]:
    if found.kept:
        yield cell(f"stays in room {found.room}:")
        yield _models(found.kept)
    if not found.going:
        yield cell("nothing goes")
        return
    total = size(sum(one.size_bytes for one in found.going))
    verb = "withdrawn" if found.applied else "would go"
    yield cell(f"{verb}: {len(found.going)} models, {total}")
    yield _models(found.going)
    if found.applied:
        yield cell("their content goes with the garbage: dreamer room gc")
    else:
        yield cell("nothing was changed; to withdraw them: dreamer room retain --apply")


def _models(found: tuple[Judged, ...]) -> RenderableType:
    rows = (
        (
            one.short_id,
            one.name,
            size(one.size_bytes),
            time.strftime("%Y-%m-%d %H:%M", time.localtime(one.at)),
            "; ".join(one.reasons),
        )
        for one in found
    )
    return table("id name size published why", rows)


def _collected(found: GarbageReport) -> Iterator[RenderableType]:
    looked_at = f"{found.looked_at_keys} keys, {size(found.looked_at_bytes)}"
    yield cell(f"origin of room {found.room}, {found.origin}: {looked_at}")
    if found.garbage:
        rows = ((one.why, str(one.keys), size(one.size_bytes)) for one in found.garbage)
        yield table("garbage keys size", rows)
    yield from map(cell, _kept(found))
    removed = f"{found.removed_keys} keys, {size(found.removed_bytes)}"
    if found.applied:
        yield cell(f"removed: {removed}")
    elif found.garbage:
        yield cell("nothing was removed; to remove it: dreamer room gc --apply")
    else:
        yield cell("no garbage")


def _kept(found: GarbageReport) -> Iterator[str]:
    for keys, held, why in (
        (found.young_keys, found.young_bytes, "too young to go"),
        (found.held_keys, found.held_bytes, "held by pushes of the last hour"),
    ):
        if keys:
            yield f"stays: {keys} keys, {size(held)}: {why}"
    if found.models:
        yield (
            f"stays: {found.undescribed_keys} files, {size(found.undescribed_bytes)}: they may "
            f"belong to {', '.join(found.models)}, whose manifests are not at the origin: push "
            "these models again, or withdraw them"
        )
    if found.foreign_keys:
        yield f"not Dreamer's and left alone: {found.foreign_keys} keys, such as {found.foreign[0]}"
    if found.unfinished:
        yield "there is more: collect again"
    if found.applied and found.rules == "sweep":
        yield "this store removes no temporary uploads by itself: collect now and then"


def add_to_rooms(rooms: typer.Typer) -> None:
    """Add the commands below ``dreamer room``."""
    command(rooms, "policy")(policy)
    command(rooms, "retain")(retain)
    command(rooms, "gc")(collect)


def add_to(app: typer.Typer) -> None:
    """Add these commands."""
    command(app, "upload")(upload)
