"""Handlers of long work: push, pull, torrent and run, streamed or answered at their end."""

from __future__ import annotations

from pathlib import Path

from aiohttp import web

from dreamer.daemon.ports import Node, Progress, PullEvent, PushEvent, TorrentFileEvent
from dreamer.daemon.rest.body import Pull, Push, Run, WriteTorrent, read_body
from dreamer.daemon.rest.events import answer
from dreamer.daemon.rest.json_form import run_json, to_json
from dreamer.protocol.canonical import Json
from dreamer.protocol.errors import LocalProtocolError


class WorkHandlers:
    """The handlers, on one node."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def routes(self) -> list[web.RouteDef]:
        """Return the routes below ``/dreamer/v1``."""
        return [
            web.post("/push", self.push),
            web.post("/pull", self.pull),
            web.post("/torrent", self.torrent),
            web.post("/run", self.run),
        ]

    async def push(self, request: web.Request) -> web.StreamResponse:
        """``POST push``."""
        body = await read_body(request, Push)
        work = self._node.push(body.room, body.request())
        return await answer(request, work, receipt)

    async def pull(self, request: web.Request) -> web.StreamResponse:
        """``POST pull``."""
        body = await read_body(request, Pull)
        output = None if body.output is None else Path(body.output)
        return await answer(request, self._node.pull(body.ref, body.room, output), receipt)

    async def torrent(self, request: web.Request) -> web.StreamResponse:
        """``POST torrent``."""
        body = await read_body(request, WriteTorrent)
        output = None if body.output is None else Path(body.output)
        return await answer(request, self._node.torrent(body.ref, body.room, output), receipt)

    async def run(self, request: web.Request) -> web.StreamResponse:
        """``POST run``."""
        body = await read_body(request, Run)
        events = self._node.inference.generate(body.model, body.request(), body.options())
        return await answer(request, events, run_json)


def receipt(events: list[PushEvent] | list[PullEvent] | list[TorrentFileEvent]) -> Json:
    """Return the receipt with which long work ended, as JSON.

    Raises:
        LocalProtocolError: it ended without one.
    """
    if not events or isinstance(events[-1], Progress):
        raise LocalProtocolError("the daemon ended its work without a receipt: see its log")
    return to_json(events[-1])
