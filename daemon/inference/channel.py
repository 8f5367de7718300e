"""What a pool and its worker say to each other: frames over two pipes.

A frame is a big-endian u32 and u64, then one msgpack map of the first length with the key
``frame``, its kind, then raw bytes of the second length: the tensors of the frame one after
another, which msgpack would have to copy. ``parts`` in the fields are those bytes, on both sides.

A worker is started ahead without a model and says ``waiting``. The pool sends ``open`` once and
is answered ``ready`` or ``error``, both of id 0. Then it sends ``generate``, ``infer``, ``embed``
and ``cancel`` under ids that rise, several at a time. A generation is answered by ``begun``, any
number of ``prefilled`` and ``text``, and ``done``; the others by ``inferred`` and ``embedded``;
each of them by ``error`` instead, and by nothing more once it is cancelled.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from itertools import accumulate, pairwise
from typing import Any, Protocol

import msgpack

from dreamer.daemon.inference.requests import (
    FinishReason,
    GenerateRequest,
    Message,
    Text,
    TokenLogprob,
)
from dreamer.daemon.inference.sampling_options import Grammar, Sampling
from dreamer.daemon.inference.tensors import (
    Data,
    Embedded,
    EmbedRequest,
    Inferred,
    InferRequest,
    Tensor,
    TensorSpec,
)
from dreamer.daemon.inference.tools import ToolCall, Tools
from dreamer.protocol.errors import InputError, LocalProtocolError
from dreamer.protocol.inference_limits import (
    INFERENCE_MESSAGE_MAX_BYTES,
    INFERENCE_TENSORS_MAX_BYTES,
)

HEADER = struct.Struct(">IQ")

Fields = dict[str, Any]


@dataclass(frozen=True)
class Done:
    """The worker's own account of a finished generation.

    ``prefilled`` tokens were read in ``prefill_s``; ``cached_tokens`` of the prompt were not.
    """

    finish_reason: FinishReason
    prompt_tokens: int
    completion_tokens: int
    prefilled: int
    prefill_s: float
    decoded: int
    decode_s: float
    cached_tokens: int = 0

    @classmethod
    def from_fields(cls, fields: Mapping[str, Any]) -> Done:
        """Return the account in a ``done`` frame."""
        return cls(**{key: value for key, value in fields.items() if key != "id"})


class Reads(Protocol):
    """A blocking binary stream."""

    def read(self, size: int, /) -> bytes:
        """Return up to ``size`` bytes, fewer only at the end."""
        ...


@dataclass(frozen=True)
class Sizes:
    """The lengths of what follows a header, in bytes."""

    map_bytes: int
    parts_bytes: int


def encode(kind: str, fields: Mapping[str, Any]) -> list[Data]:
    """Return one frame in pieces to write one after another (``writelines``).

    Raises:
        InputError: tensors of more bytes than a worker takes.
        LocalProtocolError: more text than any message holds.
    """
    told = {**fields, "frame": kind}
    parts = [_raw(part) for part in told.pop("parts", ())]
    lengths = [part.nbytes for part in parts]
    if parts:
        told["part_bytes"] = lengths
    body = bytes(msgpack.packb(told))
    parts_bytes = sum(lengths)
    if parts_bytes > INFERENCE_TENSORS_MAX_BYTES:
        raise InputError(
            f"these tensors are {parts_bytes} bytes, more than {INFERENCE_TENSORS_MAX_BYTES}; "
            "split the batch"
        )
    if len(body) > INFERENCE_MESSAGE_MAX_BYTES:
        raise LocalProtocolError(f"a {kind} message of {len(body)} bytes is over the limit")
    return [HEADER.pack(len(body), parts_bytes) + body, *parts]


def sizes(header: Data) -> Sizes:
    """Return how many bytes follow a header.

    Raises:
        LocalProtocolError: more than any message holds.
    """
    map_bytes, parts_bytes = HEADER.unpack(header)
    if map_bytes > INFERENCE_MESSAGE_MAX_BYTES or parts_bytes > INFERENCE_TENSORS_MAX_BYTES:
        raise LocalProtocolError(
            f"an inference worker announced a message of {map_bytes} and {parts_bytes} bytes"
        )
    return Sizes(map_bytes, parts_bytes)


class FrameBuffer:
    """Puts frames together out of pieces as they come; what comes whole is not copied."""

    def __init__(self) -> None:
        self._rest = bytearray()
        self._wanted = 0

    def feed(self, data: bytes) -> Iterator[tuple[str, Fields]]:
        """Yield kind and fields of every frame that is whole now; take all of them.

        Raises:
            LocalProtocolError: not one of our messages.
        """
        if self._rest:
            self._rest += data
            if len(self._rest) < self._wanted:
                return
            data, self._rest = bytes(self._rest), bytearray()
        view, size = memoryview(data), HEADER.size
        while len(view) >= HEADER.size:
            wanted = sizes(view[: HEADER.size])
            parts_at = HEADER.size + wanted.map_bytes
            size = parts_at + wanted.parts_bytes
            if len(view) < size:
                break
            yield decode(view[HEADER.size : parts_at], view[parts_at:size])
            view, size = view[size:], HEADER.size
        if len(view):
            self._rest, self._wanted = bytearray(view), size


def decode(body: Data, parts: Data = b"") -> tuple[str, Fields]:
    """Return a frame's kind and fields; ``parts`` are its raw bytes, which the result refers to.

    Raises:
        LocalProtocolError: not one of our messages.
    """
    try:
        fields = msgpack.unpackb(body)
        lengths = fields.pop("part_bytes", [])
        if sum(lengths) != len(parts):
            raise ValueError("the parts are not as long as the frame says")
        if lengths:
            view, ends = memoryview(parts), accumulate(lengths, initial=0)
            fields["parts"] = [view[start:end] for start, end in pairwise(ends)]
        return str(fields.pop("frame")), fields
    except (ValueError, msgpack.UnpackException, AttributeError, KeyError, TypeError) as error:
        raise LocalProtocolError("an inference worker sent something unreadable") from error


def read(stream: Reads) -> tuple[str, Fields] | None:
    """Block for the next frame; None when the other side is gone."""
    header = stream.read(HEADER.size)
    if len(header) < HEADER.size:
        return None
    wanted = sizes(header)
    body = stream.read(wanted.map_bytes)
    parts = stream.read(wanted.parts_bytes) if wanted.parts_bytes else b""
    if len(body) < wanted.map_bytes or len(parts) < wanted.parts_bytes:
        return None
    return decode(body, parts)


def request_fields(request: GenerateRequest) -> Fields:
    """Return what a ``generate`` frame carries."""
    fields = asdict(request)
    if request.prompt is not None:
        # The daemon's own two ways to say it are one to a worker.
        fields["messages"] = [asdict(turn) for turn in request.conversation()]
    del fields["prompt"]
    return fields


def request_from(fields: Mapping[str, Any]) -> GenerateRequest:
    """Return the request of a ``generate`` frame."""
    sampling, grammar, tools = dict(fields["sampling"]), fields["grammar"], fields["tools"]
    sampling["logit_bias"] = tuple((token, bias) for token, bias in sampling["logit_bias"])
    return GenerateRequest(
        messages=tuple(_turn_from(turn) for turn in fields["messages"]),
        raw_prompt=fields["raw_prompt"],
        prompt_ids=tuple(fields["prompt_ids"]),
        max_tokens=fields["max_tokens"],
        token_ids_so_far=tuple(fields["token_ids_so_far"]),
        sampling=Sampling(**sampling),
        stop=tuple(fields["stop"]),
        grammar=Grammar(**grammar) if grammar else None,
        logprobs=fields["logprobs"],
        tools=Tools(**tools) if tools else None,
        context=fields["context"],
        truncate=fields["truncate"],
        open_ended=fields["open_ended"],
        thinking=fields["thinking"],
    )


def _turn_from(fields: Mapping[str, Any]) -> Message:
    calls = tuple(ToolCall(**call) for call in fields["tool_calls"])
    return Message(**{**fields, "tool_calls": calls})


def text_from(fields: Mapping[str, Any]) -> Text:
    """Return the piece of a ``text`` frame, which holds ``asdict(Text)``."""
    told = tuple(
        TokenLogprob(
            one["token_id"],
            one["text"],
            one["logprob"],
            tuple((token, text, logprob) for token, text, logprob in one["top"]),
        )
        for one in fields.get("logprobs", ())
    )
    return Text(fields["text"], tuple(fields["token_ids"]), told)


def infer_fields(request: InferRequest) -> Fields:
    """Return what an ``infer`` frame carries."""
    return {"outputs": list(request.outputs), **_tensor_fields("inputs", request.inputs)}


def infer_from(fields: Mapping[str, Any]) -> InferRequest:
    """Return the request of an ``infer`` frame."""
    return InferRequest(_tensors_from("inputs", fields), tuple(fields["outputs"]))


def inferred_fields(answer: Inferred) -> Fields:
    """Return what an ``inferred`` frame carries."""
    return {"compute_s": answer.compute_s, **_tensor_fields("outputs", answer.outputs)}


def inferred_from(fields: Mapping[str, Any]) -> Inferred:
    """Return the answer of an ``inferred`` frame; the pool knows of queueing and loading."""
    return Inferred(_tensors_from("outputs", fields), compute_s=fields["compute_s"])


def embed_fields(request: EmbedRequest) -> Fields:
    """Return what an ``embed`` frame carries."""
    return asdict(request)


def embed_from(fields: Mapping[str, Any]) -> EmbedRequest:
    """Return the request of an ``embed`` frame."""
    return EmbedRequest(tuple(fields["texts"]), fields["truncate"], fields["dimensions"])


def embedded_fields(answer: Embedded) -> Fields:
    """Return what an ``embedded`` frame carries."""
    told = {"prompt_tokens": answer.prompt_tokens, "compute_s": answer.compute_s}
    return {**told, **_tensor_fields("vectors", (answer.vectors,))}


def embedded_from(fields: Mapping[str, Any]) -> Embedded:
    """Return the answer of an ``embedded`` frame."""
    (vectors,) = _tensors_from("vectors", fields)
    return Embedded(vectors, fields["prompt_tokens"], compute_s=fields["compute_s"])


def specs_from(told: list[Any]) -> tuple[TensorSpec, ...]:
    """Return the inputs or outputs that a ``ready`` frame names."""
    return tuple(TensorSpec(name, datatype, tuple(shape)) for name, datatype, shape in told)


def _raw(part: Data) -> memoryview:
    view = memoryview(part)
    # A view with a zero in its shape can't be cast.
    return view.cast("B") if view.nbytes else memoryview(b"")


def _tensor_fields(key: str, tensors: tuple[Tensor, ...]) -> Fields:
    named = [[one.name, one.datatype, list(one.shape)] for one in tensors]
    return {key: named, "parts": [one.data for one in tensors]}


def _tensors_from(key: str, fields: Mapping[str, Any]) -> tuple[Tensor, ...]:
    return tuple(
        Tensor(name, datatype, tuple(shape), data)
        for (name, datatype, shape), data in zip(fields[key], fields.get("parts", ()), strict=True)
    )
