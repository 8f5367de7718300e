"""A stream of requests: several are under way at once, their answers come in the requests' order.

A request that fails is answered with its error, and the stream goes on with the next.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from dreamer.daemon.grpc_api.calls import read_call, set_parameter, write_answer
from dreamer.daemon.grpc_api.messages import message, parsed
from dreamer.daemon.open_inference.calls import Call
from dreamer.daemon.open_inference.serving import OpenInference
from dreamer.daemon.surfaces.inference import RunOptions
from dreamer.protocol.errors import DreamerError
from dreamer.protocol.inference_limits import OIP_STREAM_MAX_PENDING

log = logging.getLogger(__name__)

_Response = message("ModelInferResponse")
_StreamResponse = message("ModelStreamInferResponse")

FINAL, EMPTY_FINAL = "triton_final_response", "triton_enable_empty_final_response"

_Answers = asyncio.Queue[Any]
"""Responses to one request, None after the last."""


async def stream_infer(
    oip: OpenInference, requests: AsyncIterator[Any], options: RunOptions
) -> AsyncIterator[Any]:
    """Yield a ``ModelStreamInferResponse`` for each answer, or error, of each request."""
    begun: asyncio.Queue[_Answers | None] = asyncio.Queue(OIP_STREAM_MAX_PENDING)
    tasks: set[asyncio.Task[None]] = set()
    tasks.add(asyncio.create_task(_begin(oip, requests, options, begun, tasks)))
    try:
        while (answers := await begun.get()) is not None:
            while (response := await answers.get()) is not None:
                yield response
    finally:
        # Whoever hangs up ends the work as well.
        under_way = list(tasks)
        for task in under_way:
            task.cancel()
        await asyncio.gather(*under_way, return_exceptions=True)


async def _begin(
    oip: OpenInference,
    requests: AsyncIterator[Any],
    options: RunOptions,
    begun: asyncio.Queue[_Answers | None],
    tasks: set[asyncio.Task[None]],
) -> None:
    try:
        async for request in requests:
            answers: _Answers = asyncio.Queue(OIP_STREAM_MAX_PENDING)
            # Waits while as many are under way as may be: a client that floods is slowed down.
            await begun.put(answers)
            task = asyncio.create_task(_collect(_responses(oip, request, options), answers))
            tasks.add(task)
            task.add_done_callback(tasks.discard)
    except Exception as error:
        # The connection broke: what came before that is still answered, to whoever listens.
        log.debug("a stream of requests broke off: %r", error)
    await begun.put(None)


async def _collect(responses: AsyncIterator[Any], answers: _Answers) -> None:
    try:
        async for response in responses:
            await answers.put(response)
    except Exception:
        # Whatever went wrong, the answers behind this one must not wait for it forever.
        log.exception("a request of a stream failed by a bug of ours")
        await answers.put(_StreamResponse(error_message="internal error: see the daemon's log"))
    await answers.put(None)


async def _responses(oip: OpenInference, request: Any, options: RunOptions) -> AsyncIterator[Any]:
    """Yield the responses to one request."""
    empty_final = False
    name = number = ""
    try:
        request = parsed(request)
        name, number = request.model_name, request.id
        asked = request.parameters.get(EMPTY_FINAL)
        empty_final = asked is not None and asked.bool_param
        async for response in _answered(oip, read_call(request), options, empty_final):
            yield response
    except DreamerError as error:
        failed = _ending(name, number, not empty_final)
        yield _StreamResponse(error_message=str(error), infer_response=failed)
    if empty_final:
        yield _StreamResponse(infer_response=_ending(name, number, True))


async def _answered(
    oip: OpenInference, call: Call, options: RunOptions, empty_final: bool
) -> AsyncIterator[Any]:
    with oip.bodies.body() as held:
        held.grow(sum(len(one.data) for one in call.inputs))
        async with aclosing(oip.stream(call, options)) as found:
            async for answer in found:
                response = write_answer(answer)
                set_parameter(response, FINAL, answer.final and not empty_final)
                yield _StreamResponse(infer_response=response)


def _ending(model: str, request_id: str, final: bool) -> Any:
    response = _Response(model_name=model, id=request_id)
    set_parameter(response, FINAL, final)
    return response
