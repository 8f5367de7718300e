"""Answers of several JSON objects, one a line (NDJSON), as Ollama streams them.

A line is never empty: clients parse each, so there is none to say only that somebody is there.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from datetime import UTC, datetime

from aiohttp import web

from dreamer.daemon.rest.dialects import error_body
from dreamer.daemon.rest.outgoing import outgoing
from dreamer.protocol.canonical import Json
from dreamer.protocol.errors import DreamerError

LINES_TYPE = "application/x-ndjson"
_NO_HEADERS: Mapping[str, str] = {}


async def answer(
    request: web.Request, work: AsyncGenerator[Json, None], stream: bool
) -> web.StreamResponse:
    """Answer with each object of ``work`` as it comes, or else with the last alone.

    Raises:
        DreamerError: it failed before its first object; not streamed, at any time.
    """
    async with aclosing(work):
        if stream:
            # Whatever fails before there is anything to tell has a status of its own.
            first = await anext(work)
            return await write_lines(request, _chained(first, work))
        said = [line async for line in work]
        return web.json_response(said[-1])


async def write_lines(
    request: web.Request, lines: AsyncIterator[Json], headers: Mapping[str, str] = _NO_HEADERS
) -> web.StreamResponse:
    """Send one line after the other; an error on the way becomes the last line."""
    async with outgoing(request, {"Content-Type": LINES_TYPE, **headers}) as stream:
        try:
            async for line in lines:
                await stream.write(_line(line))
        except DreamerError as error:
            # The status line is long gone.
            await stream.write(_line(error_body(error, request.path)))
    return stream.response


@asynccontextmanager
async def closing(work: AsyncIterator[object]) -> AsyncIterator[None]:
    """End work when the context ends, if it was not at its end: who asked for it has gone."""
    try:
        yield
    finally:
        if isinstance(work, AsyncGenerator):
            await work.aclose()


def moment(seconds: float) -> str:
    """Return seconds since the epoch as RFC 3339 has them."""
    return datetime.fromtimestamp(seconds, UTC).isoformat().replace("+00:00", "Z")


def _line(value: Json) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode(errors="replace") + b"\n"


async def _chained(first: Json, rest: AsyncIterator[Json]) -> AsyncIterator[Json]:
    yield first
    async for one in rest:
        yield one
