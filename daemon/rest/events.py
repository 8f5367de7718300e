"""Answers with long work: Server-Sent Events when the client asks for them, else its end as JSON.

When the client goes away the handler is cancelled, and with it the work: aiohttp cancels handlers
of closed connections (``handler_cancellation`` in ``serve``).
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

from aiohttp import web

from dreamer.daemon.rest.json_form import EVENT_NAMES, Event, error_json, to_json
from dreamer.protocol.canonical import Json
from dreamer.protocol.errors import DreamerError
from dreamer.protocol.limits import REST_PING_INTERVAL_S

E = TypeVar("E", bound=Event)

STREAM_TYPE = "text/event-stream"


async def answer(
    request: web.Request, work: AsyncIterator[E], summary: Callable[[list[E]], Json]
) -> web.StreamResponse:
    """Run ``work`` to its end for this request; ``summary`` makes the plain answer of all events.

    Raises:
        DreamerError: the work failed before anything was streamed.
    """
    async with _closing(work):
        if STREAM_TYPE in request.headers.get("Accept", ""):
            return await _stream(request, work)
        return web.json_response(summary([event async for event in work]))


async def stream(request: web.Request, work: AsyncIterator[E]) -> web.StreamResponse:
    """Answer with the events of work that has no end of its own, until the client goes."""
    async with _closing(work):
        return await _stream(request, work)


@asynccontextmanager
async def _closing(work: AsyncIterator[Any]) -> AsyncIterator[None]:
    try:
        yield
    finally:
        close = getattr(work, "aclose", None)
        if close is not None:
            await close()


async def _stream(request: web.Request, work: AsyncIterator[E]) -> web.StreamResponse:
    response = web.StreamResponse(
        headers={"Content-Type": STREAM_TYPE, "Cache-Control": "no-store"}
    )
    await response.prepare(request)
    async with _pinging(response):
        try:
            async for event in work:
                await response.write(_frame(EVENT_NAMES[type(event)], to_json(event)))
        except DreamerError as error:
            # The status line is long gone: the error travels as an event.
            await response.write(_frame("error", error_json(error)["error"]))
    # Who has its receipt may have hung up already.
    with suppress(ConnectionError):
        await response.write_eof()
    return response


def _frame(name: str, data: Json) -> bytes:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()


@asynccontextmanager
async def _pinging(response: web.StreamResponse) -> AsyncIterator[None]:
    """Send comments meanwhile, so that a silent connection always means a dead one."""
    pings = asyncio.create_task(_ping(response))
    try:
        yield
    finally:
        pings.cancel()
        with suppress(asyncio.CancelledError, ConnectionError):
            await pings


async def _ping(response: web.StreamResponse) -> None:
    while True:
        await asyncio.sleep(REST_PING_INTERVAL_S)
        await response.write(b": ping\n\n")
