"""``dreamer promote``, ``lineage``, ``note``, ``withdraw``, ``alias list|log|protect``."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Annotated

import typer

from dreamer.daemon.cli import tables
from dreamer.daemon.cli.arguments import Alias, Ref, RoomOption
from dreamer.daemon.cli.command import command
from dreamer.daemon.cli.session import Session
from dreamer.daemon.rest.json_form import to_json
from dreamer.daemon.surfaces.catalogue import AliasInfo, KinInfo, LineageInfo

if TYPE_CHECKING:
    from rich.console import RenderableType

_ID_DIGITS = 8


def promote(
    session: Session,
    source: Annotated[str, typer.Argument(metavar="FROM", help="An alias, such as staging.")],
    target: Annotated[str, typer.Argument(metavar="TO", help="An alias, such as production.")],
    room: RoomOption = None,
) -> None:
    """Make the alias TO mean what the alias FROM means."""
    found = session.client.catalogue.promote(source, target, room)
    session.show(to_json(found), lambda: f"{target} means {_id(found.manifest_id)}, as {source}")


def lineage(session: Session, ref: Ref, room: RoomOption = None) -> None:
    """Show what the model REF was trained from, and what came of it."""
    found = session.client.catalogue.lineage(ref, room)
    session.show(to_json(found), lambda: _lineage(found))


def note(
    session: Session,
    ref: Ref,
    text: Annotated[str, typer.Argument(metavar="TEXT", help="Empty: no notes.")],
    room: RoomOption = None,
) -> None:
    """Replace the notes of the model REF."""
    model = session.client.catalogue.note(ref, text, room)
    session.show(to_json(model), lambda: f"noted on {model.short_id}")


def withdraw(session: Session, ref: Ref, room: RoomOption = None) -> None:
    """Take the model REF out of the room; machines keep their copies, the origin does not."""
    gone = session.client.catalogue.withdraw(ref, room)
    session.show({"withdrawn": gone}, lambda: f"withdrew {_id(gone)}")


def alias_list(session: Session, room: RoomOption = None) -> None:
    """List the aliases: what they mean, since when, who may move them."""
    found = session.client.catalogue.aliases(room)
    session.show({"aliases": [to_json(alias) for alias in found]}, lambda: _aliases(found))


def alias_log(session: Session, alias: Alias, room: RoomOption = None) -> None:
    """Show who moved ALIAS from what to what, and when."""
    found = session.client.catalogue.alias(alias, room)
    session.show(to_json(found), lambda: _log(found))


def alias_protect(
    session: Session,
    alias: Alias,
    role: Annotated[
        list[str] | None,
        typer.Option("--role", metavar="ROLE", help="Who may move it, beside admins; repeatable."),
    ] = None,
    lift: Annotated[bool, typer.Option("--lift", help="Let any publisher move it again.")] = False,
    room: RoomOption = None,
) -> None:
    """Let only admins (and the given roles) move ALIAS."""
    roles = [] if lift else (role or ["admin"])
    found = session.client.catalogue.protect(alias, roles, room)
    who = ", ".join(found.protected_to) or "any publisher"
    session.show(to_json(found), lambda: f"{alias} may be moved by: {who}")


def _id(manifest_id: str | None) -> str:
    return "nothing" if manifest_id is None else manifest_id[:_ID_DIGITS]


def _when(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at))


def _aliases(found: Iterable[AliasInfo]) -> RenderableType:
    rows = [
        (
            alias.alias,
            _id(alias.manifest_id),
            _when(alias.moves[-1].at) if alias.moves else "",
            _who(alias.moves[-1].by, alias.moves[-1].by_name) if alias.moves else "",
            ", ".join(alias.protected_to),
        )
        for alias in found
    ]
    if not rows:
        return "no aliases yet; set one with: dreamer alias set ALIAS REF"
    return tables.table("alias model since by protected", rows)


def _log(found: AliasInfo) -> RenderableType:
    rows = (
        (_when(move.at), _id(move.before), _id(move.after), _who(move.by, move.by_name))
        for move in found.moves
    )
    return tables.table("when from to by", rows)


def _who(node: str, name: str) -> str:
    return f"{name} ({node[:_ID_DIGITS]})" if name else node[:_ID_DIGITS]


def _lineage(found: LineageInfo) -> RenderableType:
    """Return the family as indented lines: the oldest above, the youngest below."""
    above = [_kin(kin, -kin.depth) for kin in reversed(found.ancestors)]
    below = [_kin(kin, kin.depth) for kin in found.descendants]
    lines = [*above, (found.short_id, found.name, "", "this model", "", "")]
    table = tables.table("id name aliases generation through metrics", [*lines, *below])
    if not found.cut:
        return table
    return tables.below(table, tables.cell("there are more, which are not shown"))


def _kin(kin: KinInfo, generation: int) -> tuple[str, ...]:
    metrics = ", ".join(f"{name}={value:g}" for name, value in kin.metrics.items())
    name = kin.name or "(not in the room)"
    return (
        *(kin.short_id, name, ", ".join(kin.aliases)),
        *(f"{generation:+d}", kin.of[:_ID_DIGITS], metrics),
    )


def add_to(app: typer.Typer, aliases: typer.Typer) -> None:
    """Add these commands; some belong to the group ``alias``."""
    command(app, "promote")(promote)
    command(app, "lineage")(lineage)
    command(app, "note")(note)
    command(app, "withdraw")(withdraw)
    command(aliases, "list")(alias_list)
    command(aliases, "log")(alias_log)
    command(aliases, "protect")(alias_protect)
