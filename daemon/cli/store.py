"""``dreamer store ls|du|verify|gc|pin|unpin``: what is kept on this machine, and what may go."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import closing
from typing import TYPE_CHECKING, Annotated

import typer

from dreamer.daemon.cli.arguments import Ref, RoomOption
from dreamer.daemon.cli.command import command, group
from dreamer.daemon.cli.meter import metering
from dreamer.daemon.cli.plain_text import size
from dreamer.daemon.cli.session import Session
from dreamer.daemon.cli.tables import below, cell, table
from dreamer.daemon.rest.json_form import to_json
from dreamer.daemon.surfaces.caches import (
    CachedInfo,
    CollectReceipt,
    PinInfo,
    StoreUsage,
    VerifyReceipt,
)
from dreamer.protocol.cache_limits import STORE_LEFTOVER_KEPT_S
from dreamer.protocol.errors import LocalProtocolError

if TYPE_CHECKING:
    from rich.console import RenderableType

_DAY_S = 86_400
_HOUR_S = 3_600

ByAlias = Annotated[
    bool, typer.Option("--alias", help="REF is an alias: keep whichever model it means.")
]


def ls(session: Session) -> None:
    """List the models on this machine, the least recently used first."""
    found = session.client.caches.models()
    session.show({"models": [to_json(model) for model in found]}, lambda: _models(found))


def du(session: Session) -> None:
    """Show where the store's bytes are, its quota, and what is free."""
    found = session.client.caches.usage()
    session.show(to_json(found), lambda: _usage(found))


def verify(
    session: Session,
    ref: Annotated[
        str | None, typer.Argument(metavar="[REF]", help="One model; else every one.")
    ] = None,
    room: RoomOption = None,
) -> int:
    """Hash files anew; damaged ones go to quarantine, to be pulled again. Status 1 if any is."""
    receipt = _verified(session, ref, room)
    session.show(to_json(receipt), lambda: _verification(receipt))
    return 1 if receipt.damaged else 0


def _verified(session: Session, ref: str | None, room: str | None) -> VerifyReceipt:
    events = session.client.caches.verify_events(ref, room)
    with closing(events), metering("verify") as show:
        for event in events:
            if isinstance(event, VerifyReceipt):
                return event
            show(event)
    raise LocalProtocolError("the verification ended without a receipt: see the daemon's log")


def gc(
    session: Session,
    yes: Annotated[
        bool, typer.Option("--yes", help="Remove it; without this it is only listed.")
    ] = False,
    older_than: Annotated[
        float, typer.Option("--older-than", metavar="DAYS", min=0, help="Days without a change.")
    ] = STORE_LEFTOVER_KEPT_S / _DAY_S,
) -> None:
    """List what nobody needs: old partial downloads, quarantine, files that no model names."""
    found = session.client.caches.collect(yes, older_than * _DAY_S)
    session.show(to_json(found), lambda: _leftovers(found))


def pin(session: Session, ref: Ref, room: RoomOption = None, alias: ByAlias = False) -> None:
    """Never evict the model REF."""
    found = session.client.caches.pin(ref, room, alias)
    session.show(to_json(found), lambda: f"{found.manifest_id[:8]} is pinned {found.reason}")


def unpin(session: Session, ref: Ref, room: RoomOption = None, alias: ByAlias = False) -> None:
    """Let the model REF be evicted when room is needed."""
    gone = session.client.caches.unpin(ref, room, alias)
    session.show(
        {"unpinned": [to_json(one) for one in gone]},
        lambda: "\n".join(
            f"{one.manifest_id[:8]} is not pinned {one.reason} any more" for one in gone
        ),
    )


# For people


def _models(found: Sequence[CachedInfo]) -> RenderableType:
    if not found:
        return "nothing is here yet; fetch a model with: dreamer pull REF"
    now = time.time()
    rows = (
        (
            one.short_id,
            one.name,
            size(one.size_bytes),
            "whole" if one.whole else f"{size(one.here_bytes)} in whole files",
            size(one.own_bytes),
            "expired" if one.expires_at and one.expires_at <= now else _ago(now - one.last_used),
            _pinned(one.pinned),
            one.in_use,
        )
        for one in found
    )
    return table("id name size here own used pinned in-use", rows)


def _pinned(pins: Sequence[PinInfo]) -> str:
    return ", ".join(pin.reason for pin in pins)


def _ago(age_s: float) -> str:
    if age_s < 2 * _HOUR_S:
        return f"{max(0.0, age_s) / 60:.0f} min ago"
    return f"{age_s / _HOUR_S:.0f} h ago" if age_s < 2 * _DAY_S else f"{age_s / _DAY_S:.0f} d ago"


def _usage(found: StoreUsage) -> RenderableType:
    return below(
        table(
            "model id bytes", ((m.name, m.manifest_id[:8], size(m.own_bytes)) for m in found.models)
        ),
        *(cell(line) for line in _totals(found)),
    )


def _totals(found: StoreUsage) -> Iterator[str]:
    for label, size_bytes in (
        ("shared by several models", found.shared_bytes),
        ("partial downloads", found.partial_bytes),
        ("quarantine", found.quarantine_bytes),
        ("files that no model names", found.unnamed_bytes),
        ("work under way", found.staging_bytes),
        ("descriptions", found.objects_bytes),
        ("copies in models' directories", found.copies_bytes),
    ):
        if size_bytes:
            yield f"{label}: {size(size_bytes)}"
    quota = f" of a quota of {size(found.quota_bytes)}" if found.quota_bytes else ", no quota"
    yield f"{found.path}: {size(found.used_bytes)} used{quota}"
    kept = f", {size(found.min_free_bytes)} of it stay free" if found.min_free_bytes else ""
    yield f"free on the disk: {size(found.free_bytes)}{kept}"


def _verification(receipt: VerifyReceipt) -> RenderableType:
    rows = (
        (
            one.manifest_id[:8],
            one.name,
            size(one.size_bytes),
            "good" if not one.lacking else f"damaged or missing: {', '.join(one.lacking)}",
        )
        for one in receipt.models
    )
    advice = (cell(receipt.advice),) if receipt.advice else ()
    return below(table("id name size found", rows), *advice)


def _leftovers(found: CollectReceipt) -> RenderableType:
    if not found.found:
        return "nothing is left over"
    rows = ((one.kind, one.name[:16], size(one.size_bytes)) for one in found.found)
    said = f"{size(found.size_bytes)} removed"
    if not found.removed:
        said = f"{size(found.size_bytes)} can go; remove it with: dreamer store gc --yes"
    return below(table("kind name bytes", rows), cell(said))


def add_to(app: typer.Typer) -> None:
    """Add these commands."""
    store = group("What is kept on this machine: list it, verify it, pin it, clear it away.")
    for name, body in (("ls", ls), ("du", du), ("verify", verify), ("gc", gc)):
        command(store, name)(body)
    command(store, "pin")(pin)
    command(store, "unpin")(unpin)
    app.add_typer(store, name="store")
