"""Puts the API together over a ``Node``."""

from __future__ import annotations

import tempfile
from pathlib import Path

from aiohttp import web

from dreamer.daemon.open_inference.serving import OpenInference
from dreamer.daemon.ports import Node
from dreamer.daemon.rest.caches import CacheHandlers
from dreamer.daemon.rest.catalogue import CatalogueHandlers
from dreamer.daemon.rest.connect import ConnectHandlers
from dreamer.daemon.rest.costs import CostHandlers
from dreamer.daemon.rest.guard import bearer_token, declared_types, errors_as_json, known_host
from dreamer.daemon.rest.inference import InferenceHandlers
from dreamer.daemon.rest.metrics import MetricsHandler
from dreamer.daemon.rest.offload_rules import OffloadRulesHandlers
from dreamer.daemon.rest.oip.handlers import OipHandlers
from dreamer.daemon.rest.ollama.handlers import OllamaHandlers
from dreamer.daemon.rest.openai.handlers import OpenAIHandlers
from dreamer.daemon.rest.readiness import ReadinessHandlers
from dreamer.daemon.rest.retention import RetentionHandlers
from dreamer.daemon.rest.rooms import RoomHandlers
from dreamer.daemon.rest.work import WorkHandlers
from dreamer.protocol.limits import REST_BODY_MAX_BYTES

PREFIX = "/dreamer/v1"

OPEN_INFERENCE = web.AppKey("open_inference", OpenInference)
"""What the app shares with whoever else speaks that protocol over its node."""


def make_app(node: Node, token: str | None = None, blobs: Path | None = None) -> web.Application:
    """Return the API of ``node``; ``token`` is what TCP clients must send, None shuts TCP out.

    Uploads that models are made of are kept below ``blobs``, by default in the system's temporary
    directory.
    """
    app = web.Application(
        client_max_size=REST_BODY_MAX_BYTES,
        # Outermost first: every refusal below is answered as JSON.
        middlewares=[errors_as_json, known_host, bearer_token(token), declared_types],
    )
    readiness = ReadinessHandlers(node, token)
    oip = app[OPEN_INFERENCE] = OpenInference(node.inference)
    handlers = (
        RoomHandlers(node),
        ConnectHandlers(node),
        WorkHandlers(node),
        CatalogueHandlers(node),
        CostHandlers(node),
        CacheHandlers(node),
        RetentionHandlers(node),
        OffloadRulesHandlers(node),
        InferenceHandlers(node),
        readiness,
    )
    for route in (route for each in handlers for route in each.routes()):
        app.router.add_route(route.method, f"{PREFIX}{route.path}", route.handler)
    apis = (
        OpenAIHandlers(node),
        OllamaHandlers(node, blobs or Path(tempfile.gettempdir(), "dreamer-blobs")),
        OipHandlers(oip, node.readiness),
    )
    for route in (route for each in apis for route in each.routes()):
        app.router.add_route(route.method, route.path, route.handler)
    for route in readiness.open_routes():
        app.router.add_route(route.method, route.path, route.handler)
    # Where every program of this kind has it, and so where Prometheus looks.
    app.router.add_get("/metrics", MetricsHandler(node).metrics)
    return app
