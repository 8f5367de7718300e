"""``GET /health`` and ``GET /ready``, for whatever starts and stops this daemon.

Both answer without a token. Who may read the API hears what the node waits for, others only
whether it is ready: the names of models are their room's affair.
"""

from __future__ import annotations

from aiohttp import web

from dreamer.daemon.ports import Node
from dreamer.daemon.rest.guard import may_read
from dreamer.daemon.rest.json_form import to_json
from dreamer.daemon.surfaces.readiness import Readiness

_READY, _WAIT = 200, 503


class ReadinessHandlers:
    """The handlers, on one node."""

    def __init__(self, node: Node, token: str | None) -> None:
        """``token``: what TCP clients must send to read the API."""
        self._node = node
        self._token = token

    def routes(self) -> list[web.RouteDef]:
        """Return the routes below ``/dreamer/v1``."""
        return [web.get("/readiness", self.readiness)]

    def open_routes(self) -> list[web.RouteDef]:
        """Return the routes at the root, which need no token."""
        return [web.get("/health", self.health), web.get("/ready", self.ready)]

    async def readiness(self, _request: web.Request) -> web.Response:
        """``GET readiness``: 200 whatever it says, for programs that read it."""
        return web.json_response(to_json(self._node.readiness.info()))

    async def health(self, _request: web.Request) -> web.Response:
        """``GET /health``: the daemon answers, and so it lives."""
        return web.json_response({"alive": True})

    async def ready(self, request: web.Request) -> web.Response:
        """``GET /ready``: 200 once the node is ready, 503 before and while it stops."""
        info = self._node.readiness.info()
        said = to_json(info) if may_read(request, self._token) else {"ready": info.ready}
        return web.json_response(said, status=_READY if info.ready else _WAIT)


def make_probe_app(readiness: Readiness) -> web.Application:
    """Return the app of the probe's own port: two answers of one word, to anybody.

    The kubelet asks at the pod's address, with no token, and with that address for its Host: so
    none of the API's guards fit, and nothing is said here that would need one.
    """

    async def health(_request: web.Request) -> web.Response:
        return web.Response(text="alive\n")

    async def ready(_request: web.Request) -> web.Response:
        if readiness.info().ready:
            return web.Response(text="ready\n")
        return web.Response(text="waiting\n", status=_WAIT)

    # Whoever comes may send a request line and headers, and no body.
    app = web.Application(client_max_size=1)
    app.router.add_get("/health", health)
    app.router.add_get("/ready", ready)
    return app
