"""``dreamer cost``: what was moved, what it cost, what it would have cost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from decimal import Decimal
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from typer.core import TyperCommand

from dreamer.daemon.cli.command import command
from dreamer.daemon.cli.plain_text import size
from dreamer.daemon.cli.session import Session
from dreamer.daemon.cli.tables import below, cell, table
from dreamer.daemon.rest.json_form import to_json
from dreamer.daemon.surfaces.costs import CostFigures, CostReport, LaneCost, RoomCost

if TYPE_CHECKING:
    from rich.console import RenderableType

By = Literal["lane", "model", "node"]

_DAY_S = 86_400
_HOUR_S = 3_600
_PARTS = "uses cache peers origin uploaded cost without-peers without-both saved"


class _WithMonth(TyperCommand):
    """Takes ``--month=2026-10`` for ``--month 2026-10``: an option with or without a value."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Read the command line."""
        words: list[str] = []
        for one in args:
            words += one.split("=", 1) if one.startswith("--month=") else [one]
        return super().parse_args(ctx, words)


def cost(
    session: Session,
    month: Annotated[
        str | None, typer.Argument(metavar="[YYYY-MM]", help="A month (UTC), with --month or not.")
    ] = None,
    this_month: Annotated[
        bool, typer.Option("--month", help="This month, or the one named after it.")
    ] = False,
    room: Annotated[
        str | None, typer.Option("--room", metavar="NAME", help="One room; else every one.")
    ] = None,
    by: Annotated[By, typer.Option("--by", help="What the figures are of.")] = "lane",
) -> None:
    """What models cost: moved, paid, and what it would have been without cache and peers.

    Without a month: all that is on record, up to 13 months.
    """
    if month is None and this_month:
        month = time.strftime("%Y-%m", time.gmtime())
    found = session.client.costs.read(month, room)
    session.show(to_json(found), lambda: below(*_lines(found, by)))


def _lines(found: CostReport, by: By) -> Iterator[RenderableType]:
    when = found.month or f"all on record, since {found.first_month}"
    if by == "model":
        yield cell(f"this node by model, {when}, in {found.currency}")
        yield _by_model(found)
    elif not found.rooms:
        # What was moved in rooms that it has left is still paid for.
        yield cell(f"this node, {when}, in {found.currency}")
        yield _by_lane(found.lanes)
        yield from _summary(found.this_node, found.currency)
    for room in found.rooms if by != "model" else ():
        yield cell(
            f"room {room.room}, {when}, in {found.currency}: "
            f"{room.reported} of {room.members} members reported"
        )
        yield _by_lane(room.lanes) if by == "lane" else _by_node(room)
        yield from _summary(room.figures, found.currency)
        if room.stored_bytes:
            yield cell(
                f"besides, the origin keeps {size(room.stored_bytes)}: "
                f"{_money(room.storage_per_month)} {found.currency} a month"
            )
    for alert in found.alerts:
        if alert.crossed:
            yield cell(
                f"alert: {alert.name} of this node is {alert.value:.2f} in {alert.period}, "
                f"more than {alert.limit:g}"
            )


def _summary(figures: CostFigures, currency: str) -> Iterator[RenderableType]:
    share = figures.saved / figures.without_both if figures.without_both else 0.0
    yield cell(
        f"{figures.uses} uses of {size(figures.wanted_bytes)}: {_money(figures.cost)} {currency}; "
        f"without peers {_money(figures.without_peers)}, without the cache "
        f"{_money(figures.without_cache)}, without both {_money(figures.without_both)}: saved "
        f"{_money(figures.saved)} ({share:.0%})"
    )


def _by_lane(lanes: tuple[LaneCost, ...]) -> RenderableType:
    if not lanes:
        return cell("nothing was moved")
    rows = (
        (one.lane, size(one.down_bytes), size(one.up_bytes) if one.up_bytes else "",
         _money(one.cost) if one.cost else "")
        for one in lanes
    )  # fmt: skip
    return table("lane down up cost", rows)


def _by_model(found: CostReport) -> RenderableType:
    rows = (
        (one.manifest_id[:8], one.name if one.manifest_id else "(of no model)", *_row(one.figures))
        for one in found.models
    )
    return table(f"id name {_PARTS}", rows)


def _by_node(room: RoomCost) -> RenderableType:
    rows = (
        (one.node_id[:8], one.name, "here" if one.age_s is None else f"{_age(one.age_s)} ago",
         *_row(one.figures))
        for one in room.nodes
    )  # fmt: skip
    return table(f"id node reported {_PARTS}", rows)


def _row(one: CostFigures) -> tuple[str, ...]:
    moved = (one.cache_bytes, one.peer_bytes, one.origin_bytes, one.uploaded_bytes)
    money = (one.cost, one.without_peers, one.without_both, one.saved)
    return str(one.uses), *map(size, moved), *map(_money, money)


def _money(amount: float) -> str:
    # A team of three pays fractions of a cent a day: these must not look like nothing.
    if abs(amount) >= 1 or not amount:
        return f"{amount:.2f}"
    return format(Decimal(f"{amount:.2g}"), "f")


def _age(age_s: float) -> str:
    if age_s < 2 * _HOUR_S:
        return f"{age_s / 60:.0f} min"
    return f"{age_s / _HOUR_S:.0f} h" if age_s < 2 * _DAY_S else f"{age_s / _DAY_S:.0f} d"


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "cost", kind=_WithMonth)(cost)
