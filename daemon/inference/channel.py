"""What a pool and its worker say to each other: length-prefixed msgpack over two pipes.

Each frame is a big-endian u32 length and one msgpack map with the key ``kind``. The pool sends
``generate`` and ``cancel``; the worker sends ``ready`` once, then for each request ``begun``, any
number of ``prefilled`` and ``text``, and ``done`` or ``error``. One request is under way at a
time; its ``id`` is in every frame, so that what is left of a cancelled one can be skipped.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import msgpack

from dreamer.daemon.inference.requests import FinishReason, GenerateRequest, Message
from dreamer.protocol.errors import LocalProtocolError
from dreamer.protocol.inference_limits import (
    INFERENCE_MESSAGE_MAX_BYTES,
)

HEADER = struct.Struct(">I")


@dataclass(frozen=True)
class Done:
    """The worker's own account of a finished generation; ``prefilled`` tokens were read."""

    finish_reason: FinishReason
    prompt_tokens: int
    completion_tokens: int
    prefilled: int
    prefill_s: float
    decoded: int
    decode_s: float


class Reads(Protocol):
    """A blocking binary stream."""

    def read(self, size: int, /) -> bytes:
        """Return up to ``size`` bytes, fewer only at the end."""
        ...


def encode(kind: str, fields: Mapping[str, Any]) -> bytes:
    """Return one frame."""
    body = msgpack.packb({"kind": kind, **fields})
    if len(body) > INFERENCE_MESSAGE_MAX_BYTES:
        raise LocalProtocolError(f"a {kind} message of {len(body)} bytes is over the limit")
    return HEADER.pack(len(body)) + bytes(body)


def body_size(header: bytes) -> int:
    """Return how many bytes follow a header.

    Raises:
        LocalProtocolError: more than any message holds.
    """
    (size,) = HEADER.unpack(header)
    if size > INFERENCE_MESSAGE_MAX_BYTES:
        raise LocalProtocolError(f"an inference worker announced a message of {size} bytes")
    return int(size)


def decode(body: bytes) -> tuple[str, dict[str, Any]]:
    """Return a frame's kind and fields.

    Raises:
        LocalProtocolError: not one of our messages.
    """
    try:
        fields = msgpack.unpackb(body)
        return str(fields.pop("kind")), fields
    except (ValueError, msgpack.UnpackException, AttributeError, KeyError, TypeError) as error:
        raise LocalProtocolError("an inference worker sent something unreadable") from error


def read(stream: Reads) -> tuple[str, dict[str, Any]] | None:
    """Block for the next frame; None when the other side is gone."""
    header = stream.read(HEADER.size)
    if len(header) < HEADER.size:
        return None
    size = body_size(header)
    body = stream.read(size)
    return decode(body) if len(body) == size else None


def request_fields(request: GenerateRequest) -> dict[str, Any]:
    """Return what a ``generate`` frame carries."""
    return {
        "messages": [[turn.role, turn.content] for turn in request.conversation()],
        "max_tokens": request.max_tokens,
        "token_ids_so_far": list(request.token_ids_so_far),
    }


def request_from(fields: Mapping[str, Any]) -> GenerateRequest:
    """Return the request of a ``generate`` frame."""
    return GenerateRequest(
        messages=tuple(Message(role, content) for role, content in fields["messages"]),
        max_tokens=fields["max_tokens"],
        token_ids_so_far=tuple(fields["token_ids_so_far"]),
    )
