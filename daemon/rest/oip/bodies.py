"""Reads large bodies, in pieces and into one buffer: tensors are views of it, never copies."""

from __future__ import annotations

import asyncio

from aiohttp import web

from dreamer.daemon.open_inference.held import HeldBody
from dreamer.protocol.errors import InputError
from dreamer.protocol.inference_limits import OIP_BODY_MAX_BYTES, OIP_BODY_STALL_S


async def read_whole(request: web.Request, held: HeldBody) -> memoryview:
    """Return a request's body; aiohttp has undone its Content-Encoding.

    Raises:
        HTTPRequestEntityTooLarge: no body may be so large.
        HTTPRequestTimeout: nothing came for long.
        BusyError: others hold too much.
        InputError: it ended early, or is not compressed as it says.
    """
    size = request.content_length
    if size is not None and "Content-Encoding" not in request.headers:
        # All of it at once, instead of a buffer that moves as it grows.
        _grow(held, size)
        buffer = bytearray(size)
    else:
        buffer = bytearray()
    place = 0
    try:
        while not request.content.at_eof():
            # Most bodies are here already: only who waits needs a bound.
            piece = request.content.read_nowait() or await _piece(request)
            end = place + len(piece)
            if end > len(buffer):
                _grow(held, end)
            buffer[place:end] = piece
            place = end
    except web.RequestPayloadError as error:
        raise InputError(f"the body can't be read: {error}") from error
    return memoryview(buffer)[:place]


def _grow(held: HeldBody, size: int) -> None:
    if size > OIP_BODY_MAX_BYTES:
        raise web.HTTPRequestEntityTooLarge(
            OIP_BODY_MAX_BYTES,
            size,
            text=f"the body is more than {OIP_BODY_MAX_BYTES} bytes: send smaller batches",
        )
    held.grow(size)


async def _piece(request: web.Request) -> bytes:
    try:
        async with asyncio.timeout(OIP_BODY_STALL_S):
            return await request.content.readany()
    except TimeoutError:
        raise web.HTTPRequestTimeout(
            text=f"nothing of the body came for {OIP_BODY_STALL_S:g} s"
        ) from None
