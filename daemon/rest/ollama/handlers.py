"""All of Ollama's API, and what its clients ask first of all: is it there, which is it?"""

from __future__ import annotations

from pathlib import Path

from aiohttp import web

from dreamer.daemon.ports import Node
from dreamer.daemon.rest.ollama.creating import CreatingHandlers
from dreamer.daemon.rest.ollama.embedding import EmbeddingHandlers
from dreamer.daemon.rest.ollama.generating import GeneratingHandlers
from dreamer.daemon.rest.ollama.library import LibraryHandlers
from dreamer.daemon.rest.ollama.moving import MovingHandlers
from dreamer.daemon.rest.ollama.shelf import Shelf
from dreamer.daemon.version import VERSION

API_VERSION = "0.12.11"
"""The release of Ollama whose API this is: the first with ``logprobs``. Clients ask for it."""

RUNNING = "Ollama is running"
"""What Ollama says at ``/``, and what some clients compare to the letter."""


class OllamaHandlers:
    """The handlers, on one node; uploads for ``/api/create`` are kept below ``blobs``."""

    def __init__(self, node: Node, blobs: Path) -> None:
        shelf = Shelf(node)
        self._parts = (
            GeneratingHandlers(node, shelf),
            EmbeddingHandlers(node, shelf),
            LibraryHandlers(node, shelf),
            MovingHandlers(node, shelf),
            CreatingHandlers(node, shelf, blobs),
        )

    def routes(self) -> list[web.RouteDef]:
        """Return the routes, whole paths."""
        first = [
            web.get("/", self.root),
            web.head("/", self.root),
            web.get("/api/version", self.version),
            web.head("/api/version", self.version),
        ]
        return [*first, *(route for part in self._parts for route in part.routes())]

    async def root(self, request: web.Request) -> web.Response:
        """``GET /``."""
        return web.Response(text=RUNNING)

    async def version(self, request: web.Request) -> web.Response:
        """``GET /api/version``: of Ollama's API that is spoken here, and of what speaks it."""
        return web.json_response({"version": API_VERSION, "dreamer": VERSION})
