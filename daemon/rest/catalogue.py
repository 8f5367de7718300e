"""Handlers of what the registry says beyond its list: aliases' histories, lineages, watching."""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web

from dreamer.daemon.ports import Node
from dreamer.daemon.rest.body import read_body
from dreamer.daemon.rest.events import stream
from dreamer.daemon.rest.json_form import to_json
from dreamer.daemon.rest.rooms import room_in_path


@dataclass(frozen=True)
class Watch:
    """Body of ``POST models/watch``."""

    room: str | None = None
    query: str = ""


@dataclass(frozen=True)
class Promote:
    """Body of ``POST rooms/{room}/promote``."""

    source: str
    target: str


@dataclass(frozen=True)
class Protect:
    """Body of ``PUT rooms/{room}/aliases/{alias}/protection``."""

    roles: tuple[str, ...] = ()


@dataclass(frozen=True)
class Note:
    """Body of ``PUT rooms/{room}/models/{ref}/notes``."""

    notes: str


class CatalogueHandlers:
    """The handlers, on one node."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def routes(self) -> list[web.RouteDef]:
        """Return the routes below ``/dreamer/v1``."""
        return [
            web.post("/models/watch", self.watch),
            web.get("/rooms/{room}/aliases", self.aliases),
            web.get("/rooms/{room}/aliases/{alias}", self.alias),
            web.put("/rooms/{room}/aliases/{alias}/protection", self.protect),
            web.post("/rooms/{room}/promote", self.promote),
            web.get("/rooms/{room}/models/{ref}", self.show),
            web.get("/rooms/{room}/models/{ref}/lineage", self.lineage),
            web.put("/rooms/{room}/models/{ref}/notes", self.note),
            web.delete("/rooms/{room}/models/{ref}", self.withdraw),
        ]

    async def watch(self, request: web.Request) -> web.StreamResponse:
        """``POST models/watch``: a stream, as long as the client stays."""
        body = await read_body(request, Watch)
        return await stream(request, self._node.catalogue.watch(body.room, body.query))

    async def aliases(self, request: web.Request) -> web.Response:
        """``GET rooms/{room}/aliases``."""
        found = await self._node.catalogue.aliases(room_in_path(request))
        return web.json_response({"aliases": [to_json(alias) for alias in found]})

    async def alias(self, request: web.Request) -> web.Response:
        """``GET rooms/{room}/aliases/{alias}``."""
        alias = request.match_info["alias"]
        return web.json_response(
            to_json(await self._node.catalogue.alias(room_in_path(request), alias))
        )

    async def protect(self, request: web.Request) -> web.Response:
        """``PUT rooms/{room}/aliases/{alias}/protection``."""
        body = await read_body(request, Protect)
        found = await self._node.catalogue.protect(
            room_in_path(request), request.match_info["alias"], list(body.roles)
        )
        return web.json_response(to_json(found))

    async def promote(self, request: web.Request) -> web.Response:
        """``POST rooms/{room}/promote``."""
        body = await read_body(request, Promote)
        found = await self._node.catalogue.promote(room_in_path(request), body.source, body.target)
        return web.json_response(to_json(found))

    async def show(self, request: web.Request) -> web.Response:
        """``GET rooms/{room}/models/{ref}``."""
        ref = request.match_info["ref"]
        return web.json_response(
            to_json(await self._node.catalogue.show(room_in_path(request), ref))
        )

    async def lineage(self, request: web.Request) -> web.Response:
        """``GET rooms/{room}/models/{ref}/lineage``."""
        ref = request.match_info["ref"]
        return web.json_response(
            to_json(await self._node.catalogue.lineage(room_in_path(request), ref))
        )

    async def note(self, request: web.Request) -> web.Response:
        """``PUT rooms/{room}/models/{ref}/notes``."""
        body = await read_body(request, Note)
        ref = request.match_info["ref"]
        model = await self._node.catalogue.note(room_in_path(request), ref, body.notes)
        return web.json_response(to_json(model))

    async def withdraw(self, request: web.Request) -> web.Response:
        """``DELETE rooms/{room}/models/{ref}``: from the registry; copies stay."""
        ref = request.match_info["ref"]
        withdrawn = await self._node.catalogue.withdraw(room_in_path(request), ref)
        return web.json_response({"withdrawn": withdrawn})
