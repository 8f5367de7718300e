"""``GET /dreamer/v1/inference``: what the pool of this node holds and has done."""

from __future__ import annotations

from aiohttp import web

from dreamer.daemon.ports import Node
from dreamer.daemon.rest.json_form import to_json
from dreamer.daemon.surfaces.inference import InferenceReport


class InferenceHandlers:
    """The handlers, on one node."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def routes(self) -> list[web.RouteDef]:
        """Return the routes below ``/dreamer/v1``."""
        return [web.get("/inference", self.inference)]

    async def inference(self, _request: web.Request) -> web.Response:
        """``GET inference``: models, their workers, GPUs; counts since the daemon started."""
        facet = self._node.inference
        report = InferenceReport(facet.pool(), tuple(facet.statistics()))
        return web.json_response(to_json(report))
