"""The methods of ``inference.GRPCInferenceService`` over a node's models."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, cast, get_args

import grpc

from dreamer.daemon.grpc_api.calls import read_call, write_answer
from dreamer.daemon.grpc_api.messages import SERVICE, message, parse, parsed
from dreamer.daemon.grpc_api.reading import Reading
from dreamer.daemon.grpc_api.statuses import status_code, trailers
from dreamer.daemon.grpc_api.streaming import stream_infer
from dreamer.daemon.open_inference.models import server_metadata
from dreamer.daemon.open_inference.serving import OpenInference
from dreamer.daemon.surfaces.inference import Prefer, RunOptions, RunStarted
from dreamer.daemon.surfaces.readiness import Readiness
from dreamer.protocol.errors import DreamerError, InputError

Context = Any
"""``grpc.aio.ServicerContext``; grpcio has no types."""

_PREFER, _NODE, _WHERE, _MODEL = (
    "x-dreamer-prefer",
    "x-dreamer-node",
    "x-dreamer-where",
    "x-dreamer-model",
)

_ABSENT = {
    "SharedMemory": "shared memory is not offered: send tensors in the request",
    "TraceSetting": "there are no traces to set; /metrics has the figures of this node",
    "LogSettings": "the log is set in the daemon's settings, [log] level",
}
"""Methods of Triton's that this node does without, by a part of their names."""


class Service:
    """The methods that answer once. Each takes the request and returns the fields of the answer."""

    def __init__(self, oip: OpenInference, readiness: Readiness) -> None:
        self._oip = oip
        self._models = oip.models
        self._readiness = readiness

    async def server_live(self, _request: Any, _context: Context) -> Any:
        """It answers, and so it lives."""
        return {"live": True}

    async def server_ready(self, _request: Any, _context: Context) -> Any:
        """Tell whether the node has what it was told to have."""
        return {"ready": self._readiness.info().ready}

    async def server_metadata(self, _request: Any, _context: Context) -> Any:
        """Tell what this server is."""
        return server_metadata()

    async def model_ready(self, request: Any, _context: Context) -> Any:
        """Tell whether a request would be run; a name that means nothing is an error."""
        found = await self._models.find(request.name, request.version)
        return {"ready": await self._models.ready(request.name, request.version) and bool(found)}

    async def model_metadata(self, request: Any, _context: Context) -> Any:
        """Tell a model's inputs and outputs."""
        return await self._models.metadata(request.name, request.version)

    async def model_config(self, request: Any, _context: Context) -> Any:
        """Tell a model's configuration."""
        return {"config": await self._models.config(request.name, request.version)}

    async def model_statistics(self, request: Any, _context: Context) -> Any:
        """Tell what was counted; of all models without a name."""
        told = await self._models.statistics(request.name, request.version)
        for one in told:
            # Of these there are none, and so no messages.
            del one["response_stats"], one["batch_stats"]
        return {"model_stats": told}

    async def repository_index(self, request: Any, _context: Context) -> Any:
        """List the models."""
        return {"models": await self._models.index(request.ready)}

    async def repository_model_load(self, request: Any, _context: Context) -> Any:
        """Have a model loaded."""
        if request.parameters:
            raise InputError(
                "a model is loaded as it was published: no parameters, configuration or files"
            )
        await self._models.load(request.model_name)
        return {}

    async def repository_model_unload(self, request: Any, _context: Context) -> Any:
        """Unload a model."""
        await self._models.unload(request.model_name)
        return {}

    async def model_infer(self, request: Any, context: Context) -> Any:
        """Run a model once; the trailing metadata says who did."""
        call = read_call(request)
        with self._oip.bodies.body() as held:
            held.grow(sum(len(one.data) for one in call.inputs))
            answer = await self._oip.infer(call, options_of(context))
        context.set_trailing_metadata(_who(answer.started))
        return write_answer(answer)

    async def model_stream_infer(
        self, requests: AsyncIterator[Any], context: Context
    ) -> AsyncIterator[Any]:
        """Run each request of a stream; answers come in the order of the requests."""
        options = options_of(context)
        async for response in stream_infer(self._oip, requests, options):
            yield response


def options_of(context: Context) -> RunOptions:
    """Return how the client wants it run.

    Raises:
        InputError: its metadata asks for something else than there is.
    """
    given = next((value for key, value in context.invocation_metadata() if key == _PREFER), "auto")
    known = get_args(Prefer)
    if given not in known:
        raise InputError(f"{_PREFER} must be one of {', '.join(known)}, not {given!r:.80}")
    return RunOptions(cast(Prefer, given))


def _who(started: RunStarted) -> tuple[tuple[str, str], ...]:
    return (_NODE, started.node), (_WHERE, started.where), (_MODEL, started.manifest_id)


class MethodHandlers(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Finds the handler of a method, and says why there is none."""

    def __init__(self, oip: OpenInference, readiness: Readiness) -> None:
        service, reading = Service(oip, readiness), Reading()
        self._handlers = {
            f"/{SERVICE}/{name}": _unary(name, method, reading)
            for name, method in (
                ("ServerLive", service.server_live),
                ("ServerReady", service.server_ready),
                ("ServerMetadata", service.server_metadata),
                ("ModelReady", service.model_ready),
                ("ModelMetadata", service.model_metadata),
                ("ModelConfig", service.model_config),
                ("ModelStatistics", service.model_statistics),
                ("RepositoryIndex", service.repository_index),
                ("RepositoryModelLoad", service.repository_model_load),
                ("RepositoryModelUnload", service.repository_model_unload),
                ("ModelInfer", service.model_infer),
            )
        }
        self._handlers[f"/{SERVICE}/ModelStreamInfer"] = _streaming(
            service.model_stream_infer, reading
        )

    def service(self, handler_call_details: Any) -> Any:
        """Return the handler of a call, None where this service has no such method."""
        method = handler_call_details.method
        found = self._handlers.get(method)
        if found is not None or not method.startswith(f"/{SERVICE}/"):
            return found
        return next((refusing(why) for part, why in _ABSENT.items() if part in method), None)


def refusing(why: str, code: grpc.StatusCode = grpc.StatusCode.UNIMPLEMENTED) -> Any:
    """Return the handler that answers any method with an error, before its request is read."""

    async def refuse(_requests: AsyncIterator[Any], context: Context) -> None:
        await context.abort(code, why)

    return grpc.stream_stream_rpc_method_handler(refuse)


def _unary(name: str, method: Callable[[Any, Context], Awaitable[Any]], reading: Reading) -> Any:
    request_type, response_type = message(f"{name}Request"), message(f"{name}Response")

    async def handle(requests: AsyncIterator[Any], context: Context) -> Any:
        try:
            request = await reading.only(requests, tensors=name == "ModelInfer")
            told = await method(parsed(request), context)
        except DreamerError as error:
            await context.abort(status_code(error), str(error), trailers(error))
        return response_type(**told) if isinstance(told, dict) else told

    # A stream to gRPC, of one message: the message is received when it is read, not before.
    return grpc.stream_unary_rpc_method_handler(
        handle,
        request_deserializer=lambda data: parse(request_type, data),
        response_serializer=response_type.SerializeToString,
    )


def _streaming(
    method: Callable[[AsyncIterator[Any], Context], AsyncIterator[Any]], reading: Reading
) -> Any:
    async def handle(requests: AsyncIterator[Any], context: Context) -> AsyncIterator[Any]:
        try:
            with reading.stream():
                async for response in method(requests, context):
                    yield response
        except DreamerError as error:
            await context.abort(status_code(error), str(error), trailers(error))

    return grpc.stream_stream_rpc_method_handler(
        handle,
        request_deserializer=lambda data: parse(message("ModelInferRequest"), data),
        response_serializer=message("ModelStreamInferResponse").SerializeToString,
    )
