"""Handlers of ``/api/generate`` and ``/api/chat``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable

from aiohttp import web

from dreamer.daemon.inference.requests import GenerateRequest, Message
from dreamer.daemon.ports import Node
from dreamer.daemon.rest.generation import Running, Said, begun
from dreamer.daemon.rest.inference_headers import (
    generated_headers,
    run_options,
    timing_headers,
    who_headers,
)
from dreamer.daemon.rest.ollama import context
from dreamer.daemon.rest.ollama.answers import AnswerForm
from dreamer.daemon.rest.ollama.fields import read_fields
from dreamer.daemon.rest.ollama.lines import write_lines
from dreamer.daemon.rest.ollama.names import Found
from dreamer.daemon.rest.ollama.prompts import Asked, parse_chat, parse_generate
from dreamer.daemon.rest.ollama.reading import Reading, Told, reading
from dreamer.daemon.rest.ollama.shelf import Shelf
from dreamer.daemon.surfaces.inference import RunEnded, RunText
from dreamer.protocol.canonical import Json


class GeneratingHandlers:
    """The handlers, on one node."""

    def __init__(self, node: Node, shelf: Shelf) -> None:
        self._node = node
        self._shelf = shelf

    def routes(self) -> list[web.RouteDef]:
        """Return the routes."""
        return [web.post("/api/generate", self.generate), web.post("/api/chat", self.chat)]

    async def generate(self, request: web.Request) -> web.StreamResponse:
        """``POST /api/generate``."""
        return await self._answer(request, parse_generate(await read_fields(request)))

    async def chat(self, request: web.Request) -> web.StreamResponse:
        """``POST /api/chat``."""
        return await self._answer(request, parse_chat(await read_fields(request)))

    async def _answer(self, request: web.Request, asked: Asked) -> web.StreamResponse:
        found = await self._shelf.find(asked.model)
        form = AnswerForm(asked.style, asked.model, asked.logprobs is not None)
        if asked.only_loads:
            return web.json_response(await self._load(found, asked, form))
        generation = asked.request(await self._shelf.recipe(found.servable))
        options = run_options(request, asked.keep_alive_s)
        work = self._node.inference.generate(found.ref, generation, options)
        read = reading(asked.thinking is not None, asked.tool_names)
        async with begun(work) as running:
            if asked.stream:
                headers = {
                    **who_headers(running.started),
                    **timing_headers(first_token=running.first_s),
                }
                return await write_lines(request, _lines(running, form, generation, read), headers)
            return await _whole(running, form, generation, read)

    async def _load(self, found: Found, asked: Asked, form: AnswerForm) -> Json:
        """Load or unload a model; one that is elsewhere is loaded there when it is asked."""
        if asked.keep_alive_s == 0:
            if found.servable.here:
                await self._node.inference.unload(found.ref)
            return form.only("unload")
        if found.servable.here:
            await self._node.inference.load(found.ref, asked.keep_alive_s)
        return form.only("load")


async def _lines(
    running: Running, form: AnswerForm, generation: GenerateRequest, read: Reading | None
) -> AsyncIterator[Json]:
    said: list[str] = []
    async for event in running.events():
        for one in _told(event, read):
            if isinstance(one, RunText):
                said.append(one.text)
            yield form.line(one)
        if isinstance(event, RunEnded):
            yield {**form.end(event), **_context(form, generation, "".join(said))}


async def _whole(
    running: Running, form: AnswerForm, generation: GenerateRequest, read: Reading | None
) -> web.Response:
    told: list[Told] = []
    async for event in running.events():
        told += _told(event, read)
    assert isinstance(event, RunEnded), "its last event, or it had raised"
    said = "".join(piece.text for piece in told if isinstance(piece, RunText))
    value = {**form.whole(told, event), **_context(form, generation, said)}
    return web.json_response(value, headers=generated_headers(running.started, event))


def _told(event: Said, read: Reading | None) -> Iterable[Told]:
    """Return what an event comes to: text as it is, or what it is read as."""
    if read is not None:
        return read.push(event) if isinstance(event, RunText) else read.finish(event)
    return (event,) if isinstance(event, RunText) else ()


def _context(form: AnswerForm, generation: GenerateRequest, said: str) -> Json:
    """Return what the client may send back to go on; Ollama gives none of a raw prompt."""
    if form.style == "chat" or not generation.messages:
        return {}
    return {"context": context.encode([*generation.messages, Message("assistant", said)])}
