"""Handlers of links that two people arrange by text."""

from __future__ import annotations

from aiohttp import web

from dreamer.daemon.ports import MeetingText, Node
from dreamer.daemon.rest.body import AnswerLink, OfferLink, read_body
from dreamer.daemon.rest.json_form import to_json


class ConnectHandlers:
    """The handlers, on one node."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def routes(self) -> list[web.RouteDef]:
        """Return the routes below ``/dreamer/v1``."""
        return [
            web.post("/connect/offer", self.offer),
            web.post("/connect/answer", self.answer),
        ]

    async def offer(self, request: web.Request) -> web.Response:
        """``POST connect/offer``."""
        body = await read_body(request, OfferLink)
        return web.json_response(to_json(await self._node.offer_link(body.room)), status=201)

    async def answer(self, request: web.Request) -> web.Response:
        """``POST connect/answer``: the text may be either an offer or an answer."""
        body = await read_body(request, AnswerLink)
        taken = await self._node.take_meeting_text(body.text)
        name = "answer" if isinstance(taken, MeetingText) else "linked"
        return web.json_response({name: to_json(taken)})
