"""Handlers of what a room keeps: its rules, what goes by them, garbage, temporary uploads."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from dreamer.daemon.ports import Node
from dreamer.daemon.rest.body import absolute_path, read_body
from dreamer.daemon.rest.events import answer
from dreamer.daemon.rest.json_form import to_json
from dreamer.daemon.rest.rooms import room_in_path
from dreamer.daemon.rest.work import receipt
from dreamer.daemon.surfaces.pushing import PushRequest
from dreamer.daemon.surfaces.retention import KeepRules
from dreamer.protocol.origin_limits import GARBAGE_GRACE_S, TEMPORARY_DEFAULT_TTL_S


@dataclass(frozen=True)
class SetRules:
    """Body of ``PUT rooms/{room}/policy``: all rules; what is left out is no rule."""

    keep_last: int | None = None
    keep_tagged: tuple[str, ...] = ()
    keep_any_tag: bool = False
    max_age_s: int | None = None


@dataclass(frozen=True)
class Retain:
    """Body of ``POST rooms/{room}/retain``."""

    apply: bool = False


@dataclass(frozen=True)
class Collect:
    """Body of ``POST rooms/{room}/gc``."""

    apply: bool = False
    grace_s: float = GARBAGE_GRACE_S


@dataclass(frozen=True)
class Upload:
    """Body of ``POST upload``."""

    path: str
    room: str | None = None
    ttl_s: float = TEMPORARY_DEFAULT_TTL_S
    tags: tuple[str, ...] = ()
    name: str | None = None
    allow_pickle: bool = False

    def __post_init__(self) -> None:
        absolute_path(self.path, "path")

    def request(self) -> PushRequest:
        """Return what is asked of the node."""
        path = Path(self.path)
        return PushRequest(
            *(path, (), self.tags, self.name or path.name, self.allow_pickle),
            ttl_s=self.ttl_s,
            named=self.name is not None,
        )


class RetentionHandlers:
    """The handlers, on one node."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def routes(self) -> list[web.RouteDef]:
        """Return the routes below ``/dreamer/v1``."""
        return [
            web.get("/rooms/{room}/policy", self.policy),
            web.put("/rooms/{room}/policy", self.set_policy),
            web.post("/rooms/{room}/retain", self.retain),
            web.post("/rooms/{room}/gc", self.collect),
            web.post("/upload", self.upload),
        ]

    async def policy(self, request: web.Request) -> web.Response:
        """``GET rooms/{room}/policy``."""
        found = await self._node.retention.policy(room_in_path(request))
        return web.json_response(to_json(found))

    async def set_policy(self, request: web.Request) -> web.Response:
        """``PUT rooms/{room}/policy``."""
        body = await read_body(request, SetRules)
        rules = KeepRules(body.keep_last, body.keep_tagged, body.keep_any_tag, body.max_age_s)
        found = await self._node.retention.set_policy(room_in_path(request), rules)
        return web.json_response(to_json(found))

    async def retain(self, request: web.Request) -> web.Response:
        """``POST rooms/{room}/retain``."""
        body = await read_body(request, Retain)
        found = await self._node.retention.retain(room_in_path(request), body.apply)
        return web.json_response(to_json(found))

    async def collect(self, request: web.Request) -> web.Response:
        """``POST rooms/{room}/gc``."""
        body = await read_body(request, Collect)
        room = room_in_path(request)
        found = await self._node.retention.collect(room, body.apply, body.grace_s)
        return web.json_response(to_json(found))

    async def upload(self, request: web.Request) -> web.StreamResponse:
        """``POST upload``."""
        body = await read_body(request, Upload)
        return await answer(request, self._node.push(body.room, body.request()), receipt)
