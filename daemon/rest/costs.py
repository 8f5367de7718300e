"""``GET /dreamer/v1/cost``: what was moved, what it cost, and what it would have."""

from __future__ import annotations

from aiohttp import web

from dreamer.daemon.ports import Node
from dreamer.daemon.rest.json_form import to_json
from dreamer.protocol.errors import InputError

_FIELDS = ("month", "room")


class CostHandlers:
    """The handlers, on one node."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def routes(self) -> list[web.RouteDef]:
        """Return the routes below ``/dreamer/v1``."""
        return [web.get("/cost", self.cost)]

    async def cost(self, request: web.Request) -> web.Response:
        """``GET cost?month=YYYY-MM&room=``; without a month, all that is on record."""
        for key in request.query:
            if key not in _FIELDS:
                allowed = ", ".join(_FIELDS)
                raise InputError(f"unknown query field {key!r:.80}; it can be: {allowed}")
        month, room = (request.query.get(key) for key in _FIELDS)
        return web.json_response(to_json(await self._node.costs.read(month, room)))
