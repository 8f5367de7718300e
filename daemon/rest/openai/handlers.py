"""The routes of OpenAI's API on one node."""

from __future__ import annotations

from functools import partial
from typing import TypeVar

import msgspec
from aiohttp import web

from dreamer.daemon.inference.requests import GenerateRequest
from dreamer.daemon.inference.tensors import Embedded
from dreamer.daemon.ports import Node
from dreamer.daemon.rest.body import read_bytes
from dreamer.daemon.rest.guard import JSON_TYPE
from dreamer.daemon.rest.inference_headers import ran_headers, run_options
from dreamer.daemon.rest.openai.answering import Wanted, answer
from dreamer.daemon.rest.openai.embeddings import embed_request, embedding_answer
from dreamer.daemon.rest.openai.forms import ChatForm, CompletionForm, Form
from dreamer.daemon.rest.openai.models import model_json, model_list
from dreamer.daemon.rest.openai.options import chat_requests, completion_requests
from dreamer.daemon.rest.openai.read_forms import ReadForm
from dreamer.daemon.rest.openai.requests import (
    ChatBody,
    CompletionBody,
    EmbeddingBody,
    SamplingBody,
    parse,
)
from dreamer.daemon.rest.openai.tools import tool_names
from dreamer.protocol.errors import LocalProtocolError
from dreamer.protocol.inference_limits import OPENAI_BODY_MAX_BYTES

B = TypeVar("B", bound=msgspec.Struct)


class OpenAIHandlers:
    """The handlers, on one node."""

    def __init__(self, node: Node) -> None:
        self._node = node

    def routes(self) -> list[web.RouteDef]:
        """Return the routes, by their full paths."""
        return [
            web.get("/v1/models", self.models),
            # Names of models may have slashes in them.
            web.get("/v1/models/{model:.+}", self.model),
            web.post("/v1/chat/completions", self.chat),
            web.post("/v1/completions", self.complete),
            web.post("/v1/embeddings", self.embed),
        ]

    async def models(self, _request: web.Request) -> web.Response:
        """``GET /v1/models``."""
        return web.json_response(model_list(await self._node.inference.servables()))

    async def model(self, request: web.Request) -> web.Response:
        """``GET /v1/models/{model}``: by alias, name or id."""
        asked = request.match_info["model"]
        return web.json_response(model_json(asked, await self._node.inference.find(asked)))

    async def chat(self, request: web.Request) -> web.StreamResponse:
        """``POST /v1/chat/completions``."""
        body = await _read(request, ChatBody)
        wanted, logprobs = chat_requests(body), bool(body.logprobs)
        form = ChatForm(logprobs)
        names = None if wanted[0].tools is None else tool_names(body)
        if names is not None or body.thinking is not None:
            parallel = body.parallel_tool_calls is not False
            form = ReadForm(logprobs, body.thinking is not None, names, parallel)
        return await self._generate(request, body, form, wanted)

    async def complete(self, request: web.Request) -> web.StreamResponse:
        """``POST /v1/completions``."""
        body = await _read(request, CompletionBody)
        wanted = completion_requests(body)
        echoes = [one.raw_prompt or "" for one in wanted] if body.echo else []
        form = CompletionForm(body.logprobs is not None, echoes)
        return await self._generate(request, body, form, wanted)

    async def embed(self, request: web.Request) -> web.Response:
        """``POST /v1/embeddings``."""
        body = await _read(request, EmbeddingBody)
        wanted, options = embed_request(body), run_options(request)
        ran = await self._node.inference.embed(body.model, wanted, options)
        if not isinstance(ran.answer, Embedded):
            raise LocalProtocolError("the node answered texts with tensors: see its log")
        return web.Response(
            body=embedding_answer(body, ran.answer),
            content_type=JSON_TYPE,
            headers=ran_headers(ran),
        )

    async def _generate(
        self, request: web.Request, body: SamplingBody, form: Form, wanted: list[GenerateRequest]
    ) -> web.StreamResponse:
        options = run_options(request)
        generate = self._node.inference.generate
        works = [partial(generate, body.model, one, options) for one in wanted]
        each, stream = body.n or 1, bool(body.stream)
        return await answer(
            request, Wanted(form, body.model, works, each, stream, body.include_usage)
        )


async def _read(request: web.Request, kind: type[B]) -> B:
    return parse(await read_bytes(request, OPENAI_BODY_MAX_BYTES), kind)
