"""Requests for tensors and embeddings, and their answers, as members send them to each other.

The values travel inside, or as a payload beside it (``payloads``) if they are large.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from dreamer.daemon.inference.tensor_checks import BYTES, pack_elements, unpack_elements
from dreamer.daemon.inference.tensors import (
    Data,
    Embedded,
    EmbedRequest,
    Inferred,
    InferRequest,
    Tensor,
)
from dreamer.daemon.offload.payload import Payload
from dreamer.protocol.errors import InputError, RemoteProtocolError

TEXTS = "texts"


@dataclass(frozen=True)
class Head:
    """A tensor without its values, of which there are ``size_bytes``."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    size_bytes: int


@dataclass(frozen=True)
class Values:
    """Tensors; their bytes one after another are ``inside``, or a payload."""

    heads: tuple[Head, ...]
    inside: bytes = b""
    payload: Payload | None = None


@dataclass(frozen=True)
class TensorRequest:
    """``infer`` has ``outputs``; ``embed`` has the texts as one tensor, and the rest."""

    values: Values
    outputs: tuple[str, ...] = ()
    truncate: bool = True
    dimensions: int | None = None


@dataclass(frozen=True)
class TensorAnswer:
    """Times in seconds."""

    values: Values
    prompt_tokens: int = 0
    queue_s: float = 0.0
    load_s: float = 0.0
    compute_s: float = 0.0


def heads(tensors: Sequence[Tensor]) -> tuple[Head, ...]:
    """Return tensors without their values."""
    return tuple(
        Head(one.name, one.datatype, one.shape, memoryview(one.data).nbytes) for one in tensors
    )


def tensors(told: Sequence[Head], data: Data) -> tuple[Tensor, ...]:
    """Return the tensors whose values are one after another in ``data``.

    Raises:
        RemoteProtocolError: there are more or fewer.
    """
    view, found, place = memoryview(data).cast("B"), [], 0
    for head in told:
        values = view[place : place + head.size_bytes]
        if head.size_bytes < 0 or values.nbytes != head.size_bytes:
            raise RemoteProtocolError("tensors whose values don't fill them")
        found.append(Tensor(head.name, head.datatype, head.shape, values))
        place += head.size_bytes
    if place != view.nbytes:
        raise RemoteProtocolError("more values than tensors")
    return tuple(found)


def texts_tensor(request: EmbedRequest) -> Tensor:
    """Return the texts to embed as a tensor."""
    data = pack_elements([text.encode() for text in request.texts])
    return Tensor(TEXTS, BYTES, (len(request.texts),), data)


def embed_request(asked: TensorRequest, given: Sequence[Tensor]) -> EmbedRequest:
    """Return what is to be embedded.

    Raises:
        RemoteProtocolError: there are no texts.
    """
    try:
        (one,) = given
        texts = tuple(text.decode() for text in unpack_elements(one.data))
    except (ValueError, InputError) as error:
        raise RemoteProtocolError("texts that can't be read") from error
    return EmbedRequest(texts, asked.truncate, asked.dimensions)


def infer_request(asked: TensorRequest, given: tuple[Tensor, ...]) -> InferRequest:
    """Return what a graph is to be run on."""
    return InferRequest(given, asked.outputs)


def outputs_of(answer: Inferred | Embedded) -> tuple[Tensor, ...]:
    """Return the tensors of an answer."""
    return answer.outputs if isinstance(answer, Inferred) else (answer.vectors,)


def answer_of(what: str, told: TensorAnswer, given: tuple[Tensor, ...]) -> Inferred | Embedded:
    """Return a peer's answer.

    Raises:
        RemoteProtocolError: it is no answer to that.
    """
    times = max(0.0, told.queue_s), max(0.0, told.load_s), max(0.0, told.compute_s)
    if what == "infer":
        return Inferred(given, *times)
    if len(given) != 1 or given[0].datatype != "FP32" or len(given[0].shape) != 2:
        raise RemoteProtocolError("an answer without vectors")
    return Embedded(given[0], max(0, told.prompt_tokens), *times)
