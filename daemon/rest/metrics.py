"""``GET /metrics``, for Prometheus; the same guards hold as for the API."""

from __future__ import annotations

from aiohttp import web

from dreamer.daemon.metrics import CONTENT_TYPE
from dreamer.daemon.ports import Node


class MetricsHandler:
    """The handler, on one node."""

    def __init__(self, node: Node) -> None:
        self._node = node

    async def metrics(self, _request: web.Request) -> web.Response:
        """``GET metrics``."""
        text = await self._node.metrics()
        return web.Response(body=text.encode(), headers={"Content-Type": CONTENT_TYPE})
