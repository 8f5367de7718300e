"""``dreamer room …``, ``peers``, ``status``."""

from __future__ import annotations

from typing import Annotated

import typer

from dreamer.daemon.cli import offload_rules, retention, tables
from dreamer.daemon.cli.command import command, group
from dreamer.daemon.cli.plain_text import duration_s
from dreamer.daemon.cli.session import Session
from dreamer.daemon.rest.json_form import to_json
from dreamer.protocol.rooms.card import RegistryPlace

RoomName = Annotated[str, typer.Argument(metavar="NAME", help="The room's name.")]
RoomOption = Annotated[
    str | None, typer.Option("--room", metavar="NAME", help="Only this room; else all.")
]


def create(
    session: Session,
    name: RoomName,
    tracker: Annotated[
        list[str] | None,
        typer.Option(
            "--tracker",
            metavar="URL",
            help="Where members meet; repeatable. Not needed if this dreamerd runs --with-tracker.",
        ),
    ] = None,
    no_tracker: Annotated[
        bool,
        typer.Option("--no-tracker", help="None: machines are linked by 'dreamer connect' alone."),
    ] = False,
    origin: Annotated[
        str | None, typer.Option(metavar="s3://BUCKET/PREFIX", help="The fallback in S3.")
    ] = None,
    endpoint_url: Annotated[
        str | None, typer.Option(metavar="URL", help="The S3 server, if it is not AWS.")
    ] = None,
    registry: Annotated[
        RegistryPlace,
        typer.Option(help="Where the room's models, aliases and tags are written down."),
    ] = RegistryPlace.TRACKER,
) -> None:
    """Make a room; this node becomes its keeper."""
    room = session.client.create_room(
        name, tracker or [], origin, endpoint_url, no_tracker, str(registry)
    )
    session.show(to_json(room), lambda: tables.room_created(room, own_tracker=not tracker))


def invite(
    session: Session,
    name: RoomName,
    role: Annotated[
        list[str] | None,
        typer.Option(
            "--role",
            metavar="ROLE",
            help="member, publisher, worker or admin; repeatable. Default: member and publisher.",
        ),
    ] = None,
    expires: Annotated[str, typer.Option(metavar="TIME", help="Such as 30m, 24h or 7d.")] = "24h",
    uses: Annotated[int, typer.Option(min=1, help="How many nodes may join with it.")] = 1,
) -> None:
    """Print a token with which another node can join."""
    token = session.client.invite(name, role or (), duration_s(expires), uses)
    # Alone and whole on its line, for $(dreamer room invite NAME): no table may fold it.
    if session.as_json:
        session.show({"token": token}, str)
    else:
        session.write(f"{token}\n")


def join(
    session: Session, token: Annotated[str, typer.Argument(metavar="TOKEN", help="An invitation.")]
) -> None:
    """Join a room with a token from one of its members."""
    room = session.client.join_room(token.strip())
    session.show(to_json(room), lambda: f"joined room {room.name} as {', '.join(room.roles)}")


def list_rooms(session: Session) -> None:
    """List the rooms this node is in."""
    rooms = session.client.rooms()
    session.show({"rooms": [to_json(room) for room in rooms]}, lambda: tables.rooms(rooms))


def leave(session: Session, name: RoomName) -> None:
    """Forget a room; what was pulled stays."""
    session.client.leave_room(name)
    session.show({"left": name}, lambda: f"left room {name}")


def remove(
    session: Session,
    name: RoomName,
    node: Annotated[
        str,
        typer.Argument(
            metavar="NODE", help="The node's id, or its start, as 'dreamer peers' shows it."
        ),
    ],
) -> None:
    """End a node's membership for good: others drop it and believe it no more."""
    removed = session.client.remove_member(name, node)
    session.show({"removed": removed}, lambda: f"removed node {removed[:8]} from room {name}")


def peers(session: Session, room: RoomOption = None) -> None:
    """List the members that are present or linked."""
    found = session.client.peers(room)
    session.show({"peers": [to_json(peer) for peer in found]}, lambda: tables.peers(found))


def status(session: Session) -> None:
    """Say how this node is."""
    found = session.client.status()
    session.show(found, lambda: tables.tree(found))


def add_to(app: typer.Typer) -> None:
    """Add these commands."""
    rooms = group("Rooms: who may exchange models with whom.")
    command(rooms, "create")(create)
    command(rooms, "invite")(invite)
    command(rooms, "join")(join)
    command(rooms, "list")(list_rooms)
    command(rooms, "leave")(leave)
    command(rooms, "remove")(remove)
    retention.add_to_rooms(rooms)
    offload_rules.add_to_rooms(rooms)
    app.add_typer(rooms, name="room")
    command(app, "peers")(peers)
    command(app, "status")(status)
