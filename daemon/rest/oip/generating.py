"""Triton's generate extension: one text in JSON, the answer in JSON or as Server-Sent Events."""

from __future__ import annotations

import json
from contextlib import aclosing
from typing import Any

from aiohttp import web

from dreamer.daemon.inference.tensors import Tensor
from dreamer.daemon.open_inference.calls import Answer, Call
from dreamer.daemon.open_inference.datatypes import BYTES, pack, unpack
from dreamer.daemon.open_inference.serving import OpenInference
from dreamer.daemon.open_inference.text import STREAM, TEXT_INPUT
from dreamer.daemon.rest.dialects import error_body
from dreamer.daemon.rest.inference_headers import run_options, timing_headers, who_headers
from dreamer.daemon.rest.outgoing import outgoing
from dreamer.daemon.surfaces.inference import RunOptions
from dreamer.protocol.canonical import Json
from dreamer.protocol.errors import DreamerError, InputError


async def generate(
    oip: OpenInference, model: str, version: str, value: Json, options: RunOptions
) -> web.Response:
    """Answer with the whole text.

    Raises:
        DreamerError: as ``OpenInference.infer``.
    """
    answer = await oip.infer(_call(model, version, value, stream=False), options)
    headers = who_headers(answer.started) | timing_headers(
        queue=answer.queue_s, load=answer.load_s, compute=answer.compute_s
    )
    return web.json_response(_told(answer), headers=headers)


async def generate_stream(
    oip: OpenInference, request: web.Request, model: str, version: str, value: Json
) -> web.StreamResponse:
    """Answer piece by piece, each an event.

    Raises:
        DreamerError: it failed before the first piece.
    """
    call = _call(model, version, value, stream=True)
    async with aclosing(oip.stream(call, run_options(request))) as answers:
        first = await anext(answers)
        headers = {
            "Content-Type": "text/event-stream",
            "Cache-Control": "no-store",
            **who_headers(first.started),
        }
        async with outgoing(request, headers) as stream:
            await stream.write(_event(_told(first)))
            try:
                async for answer in answers:
                    await stream.write(_event(_told(answer)))
            except DreamerError as error:
                # The status line is long gone.
                await stream.write(_event(error_body(error, request.path)))
    return stream.response


def _call(model: str, version: str, value: Json, *, stream: bool) -> Call:
    text = value.pop(TEXT_INPUT, None)
    if not isinstance(text, str):
        raise InputError(f"{TEXT_INPUT} must be a text")
    given = value.pop("parameters", None) or {}
    if not isinstance(given, dict):
        raise InputError("parameters must be an object")
    request_id = value.pop("id", "")
    if not isinstance(request_id, str):
        raise InputError("id must be a text")
    parameters: dict[str, Any] = {**value, **given, STREAM: stream}
    tensor = Tensor(TEXT_INPUT, BYTES, (1,), pack([text], BYTES, TEXT_INPUT))
    return Call(model, version, request_id, (tensor,), (), parameters)


def _told(answer: Answer) -> Json:
    value: Json = {"model_name": answer.model, "model_version": answer.version}
    if answer.request_id:
        value["id"] = answer.request_id
    value |= answer.parameters
    for output in answer.outputs:
        values = unpack(output.data, output.datatype, output.name)
        value[output.name] = values[0] if len(values) == 1 else values
    return value


def _event(value: Json) -> bytes:
    return b"data: " + json.dumps(value).encode() + b"\n\n"
