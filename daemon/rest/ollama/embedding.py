"""Handlers of ``/api/embed``, and of ``/api/embeddings`` as it was before."""

from __future__ import annotations

import math
import sys
import time
from array import array

from aiohttp import web

from dreamer.daemon.inference.tensors import Embedded, EmbedRequest
from dreamer.daemon.ports import Node
from dreamer.daemon.rest.inference_headers import ran_headers, run_options
from dreamer.daemon.rest.ollama.answers import nanoseconds
from dreamer.daemon.rest.ollama.fields import Fields, model_of, read_fields
from dreamer.daemon.rest.ollama.keep_alive import keep_alive_s
from dreamer.daemon.rest.ollama.shelf import Shelf
from dreamer.daemon.surfaces.inference import Ran
from dreamer.protocol.canonical import Json
from dreamer.protocol.errors import InputError, LocalProtocolError
from dreamer.protocol.inference_limits import OLLAMA_TEXTS_MAX

# Vectors that are unit ones already stay as the model gave them, to the last bit.
_UNIT_TOLERANCE = 1e-5


class EmbeddingHandlers:
    """The handlers, on one node."""

    def __init__(self, node: Node, shelf: Shelf) -> None:
        self._node = node
        self._shelf = shelf

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [web.post("/api/embed", self.embed), web.post("/api/embeddings", self.embeddings)]

    async def embed(self, request: web.Request) -> web.Response:
        """``POST /api/embed``: unit vectors of one text or of several."""
        begun = time.monotonic()
        fields = await read_fields(request)
        texts = fields.texts("input")
        dimensions = fields.whole("dimensions", 0)
        if dimensions < 0:
            raise InputError("field 'dimensions' must be 1 or more")
        wanted = EmbedRequest(texts, fields.flag("truncate", True), dimensions or None)
        ran = await self._embed(request, fields, wanted)
        told: Json = {"model": model_of(fields), "embeddings": []}
        if ran is None:
            return web.json_response(told)
        answer = _embedded(ran)
        told["embeddings"] = [_unit(vector) for vector in _vectors(answer)]
        told["total_duration"] = nanoseconds(time.monotonic() - begun)
        told["load_duration"] = nanoseconds(answer.load_s)
        told["prompt_eval_count"] = answer.prompt_tokens
        return web.json_response(told, headers=ran_headers(ran))

    async def embeddings(self, request: web.Request) -> web.Response:
        """``POST /api/embeddings``: one text, its vector as the model gives it."""
        fields = await read_fields(request)
        prompt = fields.text("prompt")
        ran = await self._embed(request, fields, EmbedRequest((prompt,) if prompt else ()))
        if ran is None:
            return web.json_response({"embedding": []})
        (vector,) = _vectors(_embedded(ran))
        return web.json_response({"embedding": vector}, headers=ran_headers(ran))

    async def _embed(
        self, request: web.Request, fields: Fields, wanted: EmbedRequest
    ) -> Ran | None:
        """Return the vectors; of no text none, but the model is loaded."""
        found = await self._shelf.find(model_of(fields))
        if len(wanted.texts) > OLLAMA_TEXTS_MAX:
            raise InputError(f"more than {OLLAMA_TEXTS_MAX} texts: send them in several requests")
        kept_s = keep_alive_s(fields.raw("keep_alive"))
        options = run_options(request, kept_s)
        if not wanted.texts:
            if found.servable.here:
                await self._node.inference.load(found.ref, kept_s)
            return None
        return await self._node.inference.embed(found.ref, wanted, options)


def _embedded(ran: Ran) -> Embedded:
    if not isinstance(ran.answer, Embedded):
        raise LocalProtocolError("embeddings were asked for, and something else came: see the log")
    return ran.answer


def _vectors(embedded: Embedded) -> list[list[float]]:
    """Return the rows of the tensor, which is little-endian."""
    values = array("f")
    values.frombytes(embedded.vectors.data)
    if sys.byteorder == "big":
        values.byteswap()
    count, size = embedded.vectors.shape
    return [values[row * size : (row + 1) * size].tolist() for row in range(count)]


def _unit(vector: list[float]) -> list[float]:
    """Return a vector of length 1, as Ollama gives them; of no length none can be made."""
    length = math.hypot(*vector)
    if not length or abs(length - 1) < _UNIT_TOLERANCE:
        return vector
    return [value / length for value in vector]
