"""A room's registry over HTTP, for rooms without S3: GET, and PUT that never overwrites unseen."""

from __future__ import annotations

import asyncio

from aiohttp import web

from dreamer.protocol.errors import ConflictError, LocalError
from dreamer.protocol.rooms.certificate import REGISTRY_WRITERS
from dreamer.protocol.tracker_limits import (
    TRACKER_REGISTRY_MAX_BYTES,
    TRACKER_REGISTRY_REQUESTS_BURST,
    TRACKER_REGISTRY_REQUESTS_PER_S,
)
from dreamer.tracker.paces import Paces
from dreamer.tracker.room import wire as room_wire
from dreamer.tracker.room.documents import Documents
from dreamer.tracker.room.rooms import Rooms
from dreamer.tracker.room.session_auth import SessionAuth
from dreamer.tracker.room.sessions import Session


class RegistryHandler:
    """Answers ``/rooms/<room>/registry`` for members with a session, and 401 for all others."""

    def __init__(
        self,
        rooms: Rooms,
        auth: SessionAuth,
        documents: Documents,
    ) -> None:
        self._rooms = rooms
        self._auth = auth
        self._documents = documents
        self._paces = Paces(TRACKER_REGISTRY_REQUESTS_PER_S, TRACKER_REGISTRY_REQUESTS_BURST)

    async def get(self, request: web.Request) -> web.Response:
        """Return the registry, 304 when the caller has it already, 404 when there is none yet."""
        session = self._paced(request)
        document = await asyncio.to_thread(self._documents.registry, session.room_id)
        if document is None:
            raise web.HTTPNotFound(text="this room has no registry yet")
        headers = {"ETag": document.etag, "Cache-Control": "no-store"}
        if document.etag in _etags(request, "If-None-Match"):
            return web.Response(status=304, headers=headers)
        return web.Response(body=document.body, content_type="application/json", headers=headers)

    async def put(self, request: web.Request) -> web.Response:
        """Replace the registry if it is what the caller's precondition says, else 412."""
        session = self._paced(request)
        if not session.member.may(*REGISTRY_WRITERS):
            raise web.HTTPForbidden(
                text="only publishers, workers and admins may change the registry"
            )
        expected = _expected(request)
        body = await _body(request)
        # A body may come slowly, and its sender may have been removed from the room meanwhile.
        session = self._auth.session(request)
        try:
            etag = await asyncio.to_thread(
                self._documents.write_registry, session.room_id, body, expected
            )
        except ConflictError as error:
            raise web.HTTPPreconditionFailed(text=str(error)) from error
        except LocalError as error:
            raise web.HTTPInsufficientStorage(text=str(error)) from error
        for guest in self._rooms.guests(session.room_id):
            guest.post(room_wire.registry_changed(etag))
        return web.Response(status=201 if expected is None else 204, headers={"ETag": etag})

    def _paced(self, request: web.Request) -> Session:
        session = self._auth.session(request)
        member = (session.room_id, session.member.node_id)
        if not self._paces.allows(member, self._auth.steady()):
            raise web.HTTPTooManyRequests(
                text="too many requests for this registry: wait a second",
                headers={"Retry-After": "1"},
            )
        return session


def _etags(request: web.Request, header: str) -> list[str]:
    listed = ",".join(request.headers.getall(header, []))
    return [etag.strip().removeprefix("W/") for etag in listed.split(",") if etag.strip()]


def _expected(request: web.Request) -> list[str] | None:
    if matching := _etags(request, "If-Match"):
        return matching
    if _etags(request, "If-None-Match") == ["*"]:
        return None
    raise web.HTTPPreconditionRequired(text="send If-Match with the ETag, or If-None-Match: *")


async def _body(request: web.Request) -> bytes:
    # Before reading: megabytes of nothing aren't worth waiting for.
    if (request.content_length or 0) > TRACKER_REGISTRY_MAX_BYTES:
        raise web.HTTPRequestEntityTooLarge(TRACKER_REGISTRY_MAX_BYTES, request.content_length or 0)
    body = await request.read()
    if not _looks_like_object(body):
        raise web.HTTPBadRequest(text="a registry is a JSON object")
    return body


def _looks_like_object(body: bytes) -> bool:
    # Not parsed: megabytes of brackets would hold up everybody, and whoever reads it verifies it.
    try:
        body.decode()
    except UnicodeDecodeError:
        return False
    return body.startswith(b"{") and body.endswith(b"}")
