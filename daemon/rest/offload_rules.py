"""Handlers of a room's rules of who may have whom run models."""

from __future__ import annotations

from dataclasses import dataclass

from aiohttp import web

from dreamer.daemon.ports import Node
from dreamer.daemon.rest.body import read_body
from dreamer.daemon.rest.json_form import to_json
from dreamer.daemon.rest.rooms import room_in_path


@dataclass(frozen=True)
class SetOffloadRules:
    """Body of ``PUT rooms/{room}/offload``: all rules; null leaves it to each node."""

    allow: tuple[str, ...] | None = None


class OffloadRulesHandlers:
    """The handlers, on one node."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def routes(self) -> list[web.RouteDef]:
        """Return the routes below ``/dreamer/v1``."""
        return [
            web.get("/rooms/{room}/offload", self.rules),
            web.put("/rooms/{room}/offload", self.set_rules),
        ]

    async def rules(self, request: web.Request) -> web.Response:
        """``GET rooms/{room}/offload``."""
        found = await self._node.offload_rules.rules(room_in_path(request))
        return web.json_response(to_json(found))

    async def set_rules(self, request: web.Request) -> web.Response:
        """``PUT rooms/{room}/offload``."""
        body = await read_body(request, SetOffloadRules)
        allow = None if body.allow is None else list(body.allow)
        found = await self._node.offload_rules.set_rules(room_in_path(request), allow)
        return web.json_response(to_json(found))
