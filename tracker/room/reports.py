"""Reports of nodes whose members may not write the room's registry: entered into it for them.

``POST /rooms/<room>/report``; ``protocol/registry/handed_in.py`` has the form, and what is checked.
The registry is where the room keeps it: in the tracker's own store, or in the bucket that the
tracker signs for. The member's report is all that changes in it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager, nullcontext
from typing import Protocol

from aiohttp import web

from dreamer.protocol.errors import (
    ConflictError,
    DreamerError,
    ForbiddenError,
    InputError,
    LocalError,
    RemoteError,
)
from dreamer.protocol.ids import RoomId
from dreamer.protocol.origin import OriginAddress
from dreamer.protocol.registry.document import parse
from dreamer.protocol.registry.handed_in import HandedIn, check_author, enter, parse_handed_in
from dreamer.protocol.registry.membership import member_verifier
from dreamer.protocol.registry_limits import HANDED_IN_MAX_BYTES
from dreamer.protocol.rooms.card import RegistryPlace
from dreamer.protocol.tracker_limits import (
    TRACKER_REPORT_ATTEMPTS,
    TRACKER_REPORTS_AT_ONCE,
    TRACKER_REPORTS_BURST,
    TRACKER_REPORTS_BUSY_PAUSE_S,
    TRACKER_REPORTS_PER_S,
    TRACKER_ROOM_REPORTS_BURST,
    TRACKER_ROOM_REPORTS_PER_S,
    TRACKER_ROOM_REPORTS_WAITING,
)
from dreamer.tracker.paces import Paces
from dreamer.tracker.room import wire as room_wire
from dreamer.tracker.room.detached import detached
from dreamer.tracker.room.documents import Documents
from dreamer.tracker.room.origin_bucket import OriginBucket
from dreamer.tracker.room.queues import QueueFullError, RoomQueues
from dreamer.tracker.room.rooms import Rooms
from dreamer.tracker.room.session_auth import SessionAuth
from dreamer.tracker.room.sessions import Session


class Keeper(Protocol):
    """Where a room's registry is kept. Blocks."""

    def read(self) -> tuple[bytes, str] | None:
        """Return the document and its ETag; None when there is none yet."""
        ...

    def write(self, data: bytes, etag: str) -> str:
        """Replace the document that has ``etag``; return its new one.

        Raises:
            ConflictError: somebody else has written it.
        """
        ...


class ReportHandler:
    """Takes reports of members with a session; ``origins`` are those that the tracker signs for."""

    def __init__(
        self,
        rooms: Rooms,
        auth: SessionAuth,
        documents: Documents,
        origins: Mapping[RoomId, OriginAddress],
    ) -> None:
        self._rooms = rooms
        self._auth = auth
        self._documents = documents
        self._buckets = {room: OriginBucket(address) for room, address in origins.items()}
        self._paces = Paces(TRACKER_REPORTS_PER_S, TRACKER_REPORTS_BURST)
        self._room_paces = Paces(TRACKER_ROOM_REPORTS_PER_S, TRACKER_ROOM_REPORTS_BURST)
        # One of each room: two of the same would only be in each other's way.
        self._queues = RoomQueues(TRACKER_ROOM_REPORTS_WAITING)
        self._at_once = asyncio.Semaphore(TRACKER_REPORTS_AT_ONCE)

    async def post(self, request: web.Request) -> web.Response:
        """Enter a report."""
        session = self._auth.session(request)
        whose = (session.room_id, session.member.node_id)
        if not self._paces.allows(whose, self._auth.steady()):
            raise _too_many("of this node")
        handed = await _handed_in(request)
        keeper = self._keeper(session.room_id, handed.kept)
        # Before anything is waited for or read: it takes no document to refuse a forged one.
        self._check_author(handed, session)
        if not self._room_paces.allows(session.room_id, self._auth.steady()):
            raise _too_many("in this room")
        try:
            async with self._queues.turn(session.room_id), self._place(handed.kept):
                # It may have waited, and its sender may have been removed from the room meanwhile.
                session = self._auth.session(request)
                etag, news = await self._entered(keeper, handed, session)
        except QueueFullError as error:
            raise _too_many("in this room") from error
        if news:
            for guest in self._rooms.guests(session.room_id):
                guest.post(room_wire.registry_changed(etag))
        return web.json_response({"etag": etag}, headers={"Cache-Control": "no-store"})

    def _keeper(self, room: RoomId, kept: RegistryPlace) -> Keeper:
        if kept is RegistryPlace.TRACKER:
            return _Here(self._documents, room)
        if (bucket := self._buckets.get(room)) is None:
            raise web.HTTPNotFound(
                text="this tracker has no access to the bucket of this room: its owner can add the "
                "room to [tracker.origins]"
            )
        return _AtOrigin(bucket, room)

    def _check_author(self, handed: HandedIn, session: Session) -> None:
        room = session.room_id
        judge = member_verifier(self._documents.revoked(room).nodes)
        try:
            check_author(room, handed, session.member.node_id, judge)
        except DreamerError as error:
            raise _problem(error) from error

    def _place(self, kept: RegistryPlace) -> AbstractAsyncContextManager[object]:
        """Return what bounds the work for all rooms together."""
        # A bucket may hang, and the tracker's owner has named the few rooms that have one.
        return nullcontext() if kept is RegistryPlace.ORIGIN else self._at_once

    async def _entered(
        self, keeper: Keeper, handed: HandedIn, session: Session
    ) -> tuple[str, bool]:
        """Return the registry's ETag, and whether it is a new one."""

        def work() -> tuple[str, bool]:
            return _enter_at(keeper, handed, session, self._documents, self._auth.wall)

        try:
            return await detached(work, "dreamer-report")
        except DreamerError as error:
            raise _problem(error) from error


class _Here:
    """The tracker's own store."""

    def __init__(self, documents: Documents, room: RoomId) -> None:
        self._documents = documents
        self._room = room

    def read(self) -> tuple[bytes, str] | None:
        found = self._documents.registry(self._room)
        return None if found is None else (found.body, found.etag)

    def write(self, data: bytes, etag: str) -> str:
        return self._documents.write_registry(self._room, data, [etag])


class _AtOrigin:
    """The room's bucket."""

    def __init__(self, bucket: OriginBucket, room: RoomId) -> None:
        self._bucket = bucket
        self._key = bucket.address.registry_key(room)

    def read(self) -> tuple[bytes, str] | None:
        return self._bucket.read(self._key)

    def write(self, data: bytes, etag: str) -> str:
        return self._bucket.write(self._key, data, etag)


def _enter_at(
    keeper: Keeper,
    handed: HandedIn,
    session: Session,
    documents: Documents,
    wall: Callable[[], float],
) -> tuple[str, bool]:
    """Read, enter, write unless another was first; return the ETag, and whether it is new.

    Raises:
        NoRegistry: there is none.
        DreamerError: the report is refused, or the registry can't be had.
    """
    room, node = session.room_id, session.member.node_id
    for _ in range(TRACKER_REPORT_ATTEMPTS):
        found = keeper.read()
        if found is None:
            raise _NoRegistryError("this room has no registry yet")
        before = parse(found[0], room)
        judge = member_verifier(documents.revoked(room).nodes)
        after = enter(before, handed, node, judge, wall())
        if after is before:
            return found[1], False
        encoded = after.encode()
        try:
            return keeper.write(encoded, found[1]), True
        except ConflictError:
            continue
    raise ConflictError("the registry is being changed by many at once: report later")


def _too_many(whose: str) -> web.HTTPException:
    return web.HTTPTooManyRequests(
        text=f"too many reports {whose}: wait {TRACKER_REPORTS_BUSY_PAUSE_S} seconds",
        headers={"Retry-After": str(TRACKER_REPORTS_BUSY_PAUSE_S)},
    )


class _NoRegistryError(LocalError):
    """There is nothing that a report could be entered into."""


def _problem(error: DreamerError) -> web.HTTPException:
    match error:
        case _NoRegistryError():
            return web.HTTPNotFound(text=str(error))
        case ForbiddenError():
            return web.HTTPForbidden(text=str(error))
        case ConflictError():
            return web.HTTPConflict(text=str(error))
        case RemoteError():
            return web.HTTPBadGateway(text=str(error))
    # The registry itself can't be read, or takes no more.
    return web.HTTPInsufficientStorage(text=str(error))


async def _handed_in(request: web.Request) -> HandedIn:
    # Before reading, and of what was read: a length that is declared is only a word.
    declared = request.content_length or 0
    if declared > HANDED_IN_MAX_BYTES:
        raise web.HTTPRequestEntityTooLarge(HANDED_IN_MAX_BYTES, declared)
    body = await request.read()
    try:
        return parse_handed_in(body)
    except InputError as error:
        raise web.HTTPBadRequest(text=str(error)) from error
