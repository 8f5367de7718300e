"""The handlers below ``/v2``. A model's name may hold slashes, quoted or not."""

from __future__ import annotations

from aiohttp import web
from aiohttp.typedefs import Handler

from dreamer.daemon.open_inference.models import server_metadata
from dreamer.daemon.open_inference.serving import OpenInference
from dreamer.daemon.rest.guard import takes
from dreamer.daemon.rest.inference_headers import run_options
from dreamer.daemon.rest.oip.answered import respond
from dreamer.daemon.rest.oip.asked import HEADER_LENGTH, read_asked, read_json
from dreamer.daemon.rest.oip.bodies import read_whole
from dreamer.daemon.rest.oip.generating import generate, generate_stream
from dreamer.daemon.surfaces.readiness import Readiness
from dreamer.protocol.canonical import Json
from dreamer.protocol.errors import InputError, LocalError

_MODEL = "/v2/models/{model:.+}"
_VERSION = f"{_MODEL}/versions/{{version:[^/]+}}"
_TAKEN = ("application/json", "application/octet-stream")
"""Clients of the protocol name no type for tensors, and none for an empty body either."""

_ABSENT = {
    "/v2/systemsharedmemory/{rest:.*}": "shared memory is not offered: send tensors in the request",
    "/v2/cudasharedmemory/{rest:.*}": "shared memory is not offered: send tensors in the request",
    "/v2/trace/setting": "there are no traces to set; /metrics has the figures of this node",
    "/v2/models/{model:.+}/trace/setting": "there are no traces to set; /metrics has the figures",
    "/v2/logging": "the log is set in the daemon's settings, [log] level",
}
"""Endpoints of Triton's that this node does without, and what to do instead."""


class OipHandlers:
    """The handlers, over one node's models."""

    def __init__(self, oip: OpenInference, readiness: Readiness) -> None:
        self._oip = oip
        self._readiness = readiness
        self._models = oip.models

    def routes(self) -> list[web.RouteDef]:
        """Return the routes; of two that match, the first is taken."""
        of_models = [
            route
            for at in (_VERSION, _MODEL)
            for route in (
                web.post(f"{at}/generate", self.generate),
                web.post(f"{at}/generate_stream", self.generate_stream),
                web.get(f"{at}/ready", self.model_ready),
                web.get(f"{at}/config", self.config),
                web.get(f"{at}/stats", self.statistics),
                web.get(at, self.metadata),
            )
        ]
        return [
            # First, since they are tried one after another: what is asked most often.
            *(web.post(f"{at}/infer", self.infer) for at in (_VERSION, _MODEL)),
            web.get("/v2", self.server),
            web.get("/v2/health/live", self.live),
            web.get("/v2/health/ready", self.ready),
            web.get("/v2/models/stats", self.statistics),
            web.post("/v2/repository/index", self.index),
            web.post("/v2/repository/models/{model:.+}/load", self.load),
            web.post("/v2/repository/models/{model:.+}/unload", self.unload),
            *(web.route("*", path, _absent(why)) for path, why in _ABSENT.items()),
            *of_models,
        ]

    async def server(self, _request: web.Request) -> web.Response:
        """``GET /v2``."""
        return web.json_response(server_metadata())

    async def live(self, _request: web.Request) -> web.Response:
        """``GET /v2/health/live``."""
        return web.json_response({"live": True})

    async def ready(self, _request: web.Request) -> web.Response:
        """``GET /v2/health/ready``: 200 once the node has what it was told to have."""
        info = self._readiness.info()
        if not info.ready:
            raise LocalError(f"not ready: {'; '.join(info.waiting_for)}")
        return web.json_response({"ready": True})

    async def metadata(self, request: web.Request) -> web.Response:
        """``GET /v2/models/M``."""
        return web.json_response(await self._models.metadata(*_named(request)))

    async def config(self, request: web.Request) -> web.Response:
        """``GET /v2/models/M/config``."""
        return web.json_response(await self._models.config(*_named(request)))

    async def model_ready(self, request: web.Request) -> web.Response:
        """``GET /v2/models/M/ready``."""
        name, version = _named(request)
        if not await self._models.ready(name, version):
            # Who has no such model is told so.
            await self._models.find(name, version)
            raise LocalError(f"{name!r:.80} is not ready: load it, or pull it first")
        return web.json_response({"name": name, "ready": True})

    async def statistics(self, request: web.Request) -> web.Response:
        """``GET /v2/models/stats`` and ``GET /v2/models/M/stats``."""
        return web.json_response({"model_stats": await self._models.statistics(*_named(request))})

    @takes(*_TAKEN)
    async def index(self, request: web.Request) -> web.Response:
        """``POST /v2/repository/index``."""
        value = await self._small(request)
        return web.json_response(await self._models.index(value.get("ready") is True))

    @takes(*_TAKEN)
    async def load(self, request: web.Request) -> web.Response:
        """``POST /v2/repository/models/M/load``."""
        if (await self._small(request)).get("parameters"):
            raise InputError(
                "a model is loaded as it was published: no parameters, configuration or files"
            )
        await self._models.load(_named(request)[0])
        return web.json_response({})

    @takes(*_TAKEN)
    async def unload(self, request: web.Request) -> web.Response:
        """``POST /v2/repository/models/M/unload``; no model depends on another here."""
        await self._small(request)
        await self._models.unload(_named(request)[0])
        return web.json_response({})

    @takes(*_TAKEN)
    async def infer(self, request: web.Request) -> web.StreamResponse:
        """``POST /v2/models/M/infer``."""
        options = run_options(request)
        with self._oip.bodies.body() as held:
            body = await read_whole(request, held)
            asked = read_asked(*_named(request), body, request.headers.get(HEADER_LENGTH))
            answer = await self._oip.infer(asked.call, options)
            return await respond(request, asked, answer)

    @takes(*_TAKEN)
    async def generate(self, request: web.Request) -> web.StreamResponse:
        """``POST /v2/models/M/generate``."""
        value = await self._small(request)
        return await generate(self._oip, *_named(request), value, run_options(request))

    @takes(*_TAKEN)
    async def generate_stream(self, request: web.Request) -> web.StreamResponse:
        """``POST /v2/models/M/generate_stream``."""
        value = await self._small(request)
        return await generate_stream(self._oip, request, *_named(request), value)

    async def _small(self, request: web.Request) -> Json:
        data = await request.read()
        return read_json(memoryview(data)) if data else {}


def _named(request: web.Request) -> tuple[str, str]:
    return request.match_info.get("model", ""), request.match_info.get("version", "")


def _absent(why: str) -> Handler:
    @takes(*_TAKEN)
    async def refuse(_request: web.Request) -> web.StreamResponse:
        raise web.HTTPNotImplemented(text=why)

    return refuse
