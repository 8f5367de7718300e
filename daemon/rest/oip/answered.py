"""An answer as an HTTP response: JSON, and after it the outputs that were asked for as bytes."""

from __future__ import annotations

import asyncio
import json
import math
import re
import socket
import zlib
from collections.abc import Sequence
from contextlib import suppress

import msgspec
from aiohttp import web

from dreamer.daemon.inference.tensors import Data, Tensor
from dreamer.daemon.open_inference.calls import Answer
from dreamer.daemon.open_inference.datatypes import unpack
from dreamer.daemon.rest.inference_headers import timing_headers, who_headers
from dreamer.daemon.rest.oip.asked import HEADER_LENGTH, Asked
from dreamer.daemon.rest.outgoing import outgoing
from dreamer.protocol.canonical import Json
from dreamer.protocol.errors import InputError
from dreamer.protocol.inference_limits import (
    OIP_COMPRESSED_IN_LOOP_MAX_BYTES,
    OIP_JSON_OUTPUT_MAX_BYTES,
    OIP_WHOLE_ANSWER_MAX_BYTES,
)
from dreamer.protocol.limits import KIB, MIB

_GZIP_WINDOW, _ZLIB_WINDOW = 31, 15
_WINDOWS = {"gzip": _GZIP_WINDOW, "deflate": _ZLIB_WINDOW}
"""Window of zlib by coding. HTTP's "deflate" is zlib's format (RFC 9110, 8.4.1.2)."""

_FASTEST = 1
_PIECE_BYTES = MIB
_NARROW_BYTES = 64 * KIB
"""What every connection takes whole."""


async def respond(request: web.Request, asked: Asked, answer: Answer) -> web.StreamResponse:
    """Send an answer.

    Raises:
        InputError: an output has no form in JSON, and was not asked for as bytes.
    """
    blobs: list[Data] = []
    value = _envelope(answer)
    value["outputs"] = [_output(one, asked, blobs) for one in answer.outputs]
    head = msgspec.json.encode(value)
    headers = {
        **who_headers(answer.started),
        **timing_headers(queue=answer.queue_s, load=answer.load_s, compute=answer.compute_s),
        "Content-Type": "application/octet-stream" if blobs else "application/json",
    }
    if blobs:
        headers[HEADER_LENGTH] = str(len(head))
    parts: list[Data] = [head, *blobs]
    coding = _coding(request)
    if coding is not None:
        headers["Content-Encoding"] = coding
        parts = [await _compressed(parts, coding)]
    return await _send(request, headers, parts)


def _envelope(answer: Answer) -> Json:
    value: Json = {"model_name": answer.model, "model_version": answer.version}
    if answer.request_id:
        value["id"] = answer.request_id
    if answer.parameters:
        value["parameters"] = answer.parameters
    return value


def _output(output: Tensor, asked: Asked, blobs: list[Data]) -> Json:
    value: Json = {
        "name": output.name,
        "datatype": output.datatype,
        "shape": list(output.shape),
    }
    size = memoryview(output.data).nbytes
    if asked.binary.get(output.name, asked.binary_else):
        value["parameters"] = {"binary_data_size": size}
        blobs.append(output.data)
    elif size > OIP_JSON_OUTPUT_MAX_BYTES:
        raise InputError(
            f"output {output.name!r:.80} is {size} bytes, too many for JSON: ask for it with the "
            "parameter binary_data"
        )
    else:
        value["data"] = _values(output)
    return value


def _values(output: Tensor) -> msgspec.Raw:
    """Return an output's values as JSON, with NaN and Infinity for what JSON proper has no name."""
    values = unpack(output.data, output.datatype, output.name)
    text = msgspec.json.encode(values)
    if output.datatype in ("FP32", "FP64") and b"null" in text:
        # Ten times as fast as to have the json module write them all.
        odd = (json.dumps(value).encode() for value in values if not math.isfinite(value))
        text = re.sub(b"null", lambda _: next(odd), text)
    return msgspec.Raw(text)


def _coding(request: web.Request) -> str | None:
    # Most clients accept gzip of anything; who wants tensors compressed asks for one coding alone.
    wanted = request.headers.get("Accept-Encoding", "").strip().lower()
    return wanted if wanted in _WINDOWS else None


async def _compressed(parts: Sequence[Data], coding: str) -> bytes:
    def compress() -> bytes:
        stream = zlib.compressobj(_FASTEST, wbits=_WINDOWS[coding])
        return b"".join([*(stream.compress(part) for part in parts), stream.flush()])

    if sum(memoryview(part).nbytes for part in parts) <= OIP_COMPRESSED_IN_LOOP_MAX_BYTES:
        return compress()
    return await asyncio.to_thread(compress)


async def _send(
    request: web.Request, headers: dict[str, str], parts: Sequence[Data]
) -> web.StreamResponse:
    size = sum(memoryview(part).nbytes for part in parts)
    if size <= OIP_WHOLE_ANSWER_MAX_BYTES:
        # One write, headers included: what a small answer's time goes into.
        if size > _NARROW_BYTES:
            _widen(request)
        return web.Response(body=b"".join(parts), headers=headers)
    async with outgoing(request, {**headers, "Content-Length": str(size)}) as stream:
        for part in parts:
            view = memoryview(part).cast("B")
            # In pieces: who reads slowly is not who reads nothing.
            for place in range(0, len(view), _PIECE_BYTES):
                await stream.write(view[place : place + _PIECE_BYTES])
    return stream.response


def _widen(request: web.Request) -> None:
    """Have the connection take such an answer whole, instead of half of it until that is read."""
    end = request.transport.get_extra_info("socket") if request.transport else None
    # Each piece of it takes more than its bytes. The system lowers this to what it allows.
    with suppress(OSError):
        if end is not None:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 2 * OIP_WHOLE_ANSWER_MAX_BYTES)
