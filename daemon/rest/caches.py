"""Handlers of the store: what is in it, its pins, verification, leftovers."""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web

from dreamer.daemon.ports import Node, Progress, VerifyEvent
from dreamer.daemon.rest.body import read_body
from dreamer.daemon.rest.events import answer
from dreamer.daemon.rest.json_form import to_json
from dreamer.protocol.cache_limits import STORE_LEFTOVER_KEPT_S
from dreamer.protocol.canonical import Json
from dreamer.protocol.errors import InputError, LocalProtocolError


@dataclass(frozen=True)
class VerifyModels:
    """Body of ``POST store/verify``; without ``ref`` all models."""

    ref: str | None = None
    room: str | None = None


@dataclass(frozen=True)
class Collect:
    """Body of ``POST store/gc``."""

    remove: bool = False
    older_than_s: float = STORE_LEFTOVER_KEPT_S

    def __post_init__(self) -> None:
        if self.older_than_s < 0:
            raise InputError("field 'older_than_s' must be 0 seconds or more")


@dataclass(frozen=True)
class PinModel:
    """Body of ``POST store/pin`` and ``store/unpin``; with ``alias``, ``ref`` is one."""

    ref: str
    room: str | None = None
    alias: bool = False


class CacheHandlers:
    """The handlers, on one node."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def routes(self) -> list[web.RouteDef]:
        """Return the routes below ``/dreamer/v1``."""
        return [
            web.get("/store/models", self.models),
            web.get("/store/usage", self.usage),
            web.get("/store/pins", self.pins),
            web.post("/store/pin", self.pin),
            web.post("/store/unpin", self.unpin),
            web.post("/store/verify", self.verify),
            web.post("/store/gc", self.collect),
        ]

    async def models(self, request: web.Request) -> web.Response:
        """``GET store/models``."""
        models = await self._node.caches.models()
        return web.json_response({"models": [to_json(model) for model in models]})

    async def usage(self, request: web.Request) -> web.Response:
        """``GET store/usage``."""
        return web.json_response(to_json(await self._node.caches.usage()))

    async def pins(self, request: web.Request) -> web.Response:
        """``GET store/pins``."""
        pins = await self._node.caches.pins()
        return web.json_response({"pins": [to_json(pin) for pin in pins]})

    async def pin(self, request: web.Request) -> web.Response:
        """``POST store/pin``."""
        body = await read_body(request, PinModel)
        pin = await self._node.caches.pin(body.ref, body.room, body.alias)
        return web.json_response(to_json(pin))

    async def unpin(self, request: web.Request) -> web.Response:
        """``POST store/unpin``."""
        body = await read_body(request, PinModel)
        gone = await self._node.caches.unpin(body.ref, body.room, body.alias)
        return web.json_response({"unpinned": [to_json(pin) for pin in gone]})

    async def verify(self, request: web.Request) -> web.StreamResponse:
        """``POST store/verify``."""
        body = await read_body(request, VerifyModels)
        return await answer(request, self._node.caches.verify(body.ref, body.room), _receipt)

    async def collect(self, request: web.Request) -> web.Response:
        """``POST store/gc``."""
        body = await read_body(request, Collect)
        found = await self._node.caches.collect(body.remove, body.older_than_s)
        return web.json_response(to_json(found))


def _receipt(events: list[VerifyEvent]) -> Json:
    if not events or isinstance(events[-1], Progress):
        raise LocalProtocolError("the daemon ended its work without a receipt: see its log")
    return to_json(events[-1])
