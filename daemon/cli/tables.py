"""Results laid out for people. Every cell is made harmless: names come from other machines.

rich is imported where it is used: most commands, and ``--help``, end without it.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from dreamer.daemon.cli.plain_text import one_line, rate, size
from dreamer.daemon.ports import LANES, PeerInfo, PullReceipt, PushReceipt, RoomInfo, TorrentReceipt
from dreamer.daemon.surfaces.catalogue import ModelInfo

if TYPE_CHECKING:
    from rich.console import Group, RenderableType
    from rich.table import Table
    from rich.text import Text


def rooms(found: Sequence[RoomInfo]) -> RenderableType:
    """Return the rooms as a table."""
    if not found:
        return "no rooms yet; make one with: dreamer room create NAME --tracker URL"
    rows = (
        (
            room.name,
            room.room_id[:8],
            ", ".join(room.roles),
            _trackers(room),
            ", ".join(room.trackers),
            room.origin or "",
        )
        for room in found
    )
    return table("name id roles tracker url origin", rows)


def _trackers(room: RoomInfo) -> str:
    if not room.trackers:
        return "none"
    there = sum(one.connected for one in room.tracker_states)
    if room.connected and there < len(room.tracker_states):
        return f"{there} of {len(room.tracker_states)} connected"
    return "connected" if room.connected else "away"


def room_created(room: RoomInfo, own_tracker: bool) -> RenderableType:
    """Return what was made and where its members will meet.

    ``own_tracker`` says that the daemon named its own: by a host name that others may not know.
    """
    lines = [f"created room {room.name} ({room.room_id[:8]})"]
    lines += [f"members meet at {url}" for url in room.trackers]
    if not room.trackers:
        lines.append("it has no tracker: link its machines with 'dreamer connect --offer'")
    elif own_tracker:
        lines.append(
            "check that other machines reach this address; if not, leave the room and create it "
            "with --tracker URL"
        )
    if room.registry == "origin":
        lines.append(f"its registry is kept in {room.origin}")
    if room.advice:
        lines.append(f"nothing can be kept at the origin yet: {room.advice}")
    return below(*(cell(line) for line in lines))


def model(found: ModelInfo) -> RenderableType:
    """Return all that is known of one model, a line for each thing that is."""
    cached = (one.name or one.node_id[:8] for one in found.cached_on)
    lines = {
        "id": found.manifest_id,
        "name": found.name,
        "type": found.model_type,
        "room": found.room,
        "size": f"{size(found.size_bytes)} in {found.files} files",
        "aliases": ", ".join(found.aliases),
        "tags": ", ".join(found.tags),
        "published": f"{_date(found.at)} by {found.published_by[:8]}",
        "expires": _date(found.expires_at),
        "trained by": found.trained_by,
        "trained": _date(found.trained_at),
        "trained from": ", ".join(parent[:8] for parent in found.parents),
        "metrics": ", ".join(f"{name}={value:g}" for name, value in found.metrics.items()),
        "config": ", ".join(f"{name}={value}" for name, value in found.config.items()),
        "notes": found.notes,
        "at the origin": found.origin or "",
        "cached on": ", ".join(cached),
        "here": found.path or "",
        "magnet": found.magnet,
    }
    return below(*(cell(f"{label}: {text}") for label, text in lines.items() if text))


def _date(at: float | None) -> str:
    return "" if at is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(at))


def models(found: Sequence[ModelInfo], query: str = "") -> RenderableType:
    """Return the models as a table, newest first."""
    if not found and query:
        return cell(f"no model is what {query!r:.200} asks for; 'dreamer models' lists all")
    if not found:
        return "no models yet; publish one with: dreamer push PATH --room NAME"
    rows = (
        (
            model.short_id,
            model.name,
            ", ".join(model.aliases),
            ", ".join(model.tags),
            size(model.size_bytes),
            model.room,
            _date(model.at),
            "here" if model.local else "",
            "public" if model.magnet else "",
            str(model.on_nodes),
        )
        for model in sorted(found, key=lambda model: -model.at)
    )
    return table("id name aliases tags size room published local public nodes", rows)


def peers(found: Sequence[PeerInfo]) -> RenderableType:
    """Return the members present or linked as a table."""
    if not found:
        return "nobody else is here; invite another node with: dreamer room invite NAME"
    rows = (
        (
            peer.name,
            peer.node_id[:8],
            peer.room,
            _presence(peer),
            f"{peer.lane or ''}{' (spent)' if peer.spent else ''}",
            size(peer.bytes_down),
            size(peer.bytes_up),
            "" if peer.rtt_ms is None else f"{peer.rtt_ms:.0f} ms",
            ", ".join(peer.serves),
        )
        for peer in found
    )
    return table("name id room state lane down up rtt serves", rows)


def linked(peer: PeerInfo) -> RenderableType:
    """Return in one line to whom this node has just been linked."""
    name = f"{peer.name} " if peer.name else ""
    return cell(f"linked to {name}({peer.node_id[:8]}) in room {peer.room} over {peer.lane}")


def _presence(peer: PeerInfo) -> str:
    state = "linked" if peer.linked else "present" if peer.present else "away"
    return f"{state}, ephemeral" if peer.ephemeral else state


def push_receipt(receipt: PushReceipt) -> RenderableType:
    """Return what was published, in two lines or three."""
    names = ", ".join((*receipt.aliases, *(f"tag:{tag}" for tag in receipt.tags)))
    lines = [
        f"published {receipt.name} to {receipt.room}: {receipt.short_id}",
        f"{receipt.manifest_id}  {receipt.files} files, {size(receipt.size_bytes)}, "
        f"{receipt.seconds:.1f} s" + (f", {names}" if names else ""),
    ]
    if receipt.origin:
        lines += _uploaded(receipt)
    if receipt.magnet:
        lines += [
            f"public: {receipt.magnet}",
            f"for older clients: {receipt.magnet_v1}",
            f"torrent files: {receipt.torrent}, {receipt.torrent_v1}",
        ]
    return below(*(cell(line) for line in lines))


def _uploaded(receipt: PushReceipt) -> list[str]:
    saved = f", {size(receipt.saved)} saved by compression" if receipt.saved else ""
    if receipt.origin_state != "queued":
        return [f"uploaded {size(receipt.uploaded)} to {receipt.origin}{saved}"]
    why = f" ({receipt.origin_error})" if receipt.origin_error else ""
    return [
        f"origin: queued{why}",
        "this node uploads it by itself; 'dreamer status' says how far it is",
    ]


def pull_receipt(receipt: PullReceipt) -> RenderableType:
    """Return where the model is, and a table of bytes and seconds by lane."""
    where = cell(f"{receipt.name} {receipt.short_id} is at {receipt.path}")
    # What other models of the store gave was never moved.
    here = receipt.bytes.get("cache", 0) + receipt.resumed
    moved = sum(receipt.bytes.values()) - receipt.bytes.get("cache", 0)
    if not moved:
        return below(where, cell("already here, nothing moved"))
    total = f"{size(moved)} moved in {receipt.seconds:.1f} s"
    if here:
        total += f", {size(here)} were here already"
    if receipt.saved:
        total += f", {size(receipt.saved)} saved by compression"
    if receipt.peers:
        total += f", from {len(receipt.peers)} peer{'s' if len(receipt.peers) > 1 else ''}"
    if receipt.blamed:
        total += f"; sent bad data and were dropped: {', '.join(receipt.blamed)}"
    return below(where, _lanes(receipt), cell(total))


def torrent_receipt(receipt: TorrentReceipt) -> RenderableType:
    """Return a model's torrent: its hashes, its link, its file."""
    lines = [
        f"{receipt.name} {receipt.short_id}"
        + ("" if receipt.public else " (private: no tracker is named and nobody seeds it)"),
        f"v1 info hash: {receipt.info_hash_v1}",
        f"v2 info hash: {receipt.info_hash_v2}",
        f"magnet: {receipt.magnet}",
        f"torrent file: {receipt.path}",
    ]
    return below(*(cell(line) for line in lines))


def _lanes(receipt: PullReceipt) -> Table:
    rows = []
    for lane in LANES:
        count, seconds = receipt.bytes.get(lane, 0), receipt.lane_seconds.get(lane, 0.0)
        if count:
            speed = rate(count / seconds) if seconds else ""
            rows.append((lane, size(count), f"{seconds:.1f} s", speed))
    return table("lane bytes seconds rate", rows)


def tree(value: dict[str, Any], indent: int = 0) -> RenderableType:
    """Return any JSON object as indented lines of keys and values."""
    return below(*(cell(line) for line in _lines(value, indent)))


def _lines(value: dict[str, Any], indent: int) -> Iterable[str]:
    for key, item in value.items():
        label = f"{' ' * indent}{key.replace('_', ' ')}:"
        if isinstance(item, dict):
            yield label
            yield from _lines(item, indent + 2)
        elif isinstance(item, list) and any(isinstance(one, dict) for one in item):
            for one in item:
                yield label
                yield from _lines(one if isinstance(one, dict) else {"": one}, indent + 2)
        else:
            yield f"{label} {_shown(key, item)}"


def _shown(key: str, item: object) -> str:
    if isinstance(item, list):
        return ", ".join(map(str, item))
    if isinstance(item, int) and key.endswith("_bytes"):
        return size(item)
    return str(item)


def table(header: str, rows: Iterable[Sequence[str]]) -> Table:
    """Return rows below a header of titles without spaces; what is in them is made harmless."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in header.split():
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(*(cell(text) for text in row))
    return table


def below(*parts: RenderableType) -> Group:
    """Return parts one below the other."""
    from rich.console import Group

    return Group(*parts)


def cell(text: str) -> Text:
    """Return one line of text as it is, made harmless."""
    from rich.text import Text

    # Text, not str: rich would read square brackets in a str as markup.
    lead = len(text) - len(text.lstrip(" "))
    return Text(" " * lead + one_line(text))
