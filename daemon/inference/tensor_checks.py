"""Refuses requests that no graph could answer, before they reach a worker. Free of numpy."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence

from dreamer.daemon.inference.tensors import (
    ELEMENT_BYTES,
    Data,
    EmbedRequest,
    InferRequest,
    Tensor,
)
from dreamer.protocol.errors import InputError
from dreamer.protocol.inference_limits import (
    EMBED_TEXTS_MAX,
    EMBED_TEXTS_MAX_BYTES,
    TENSOR_MAX_DIMENSIONS,
    TENSORS_MAX_PER_REQUEST,
    TENSORS_SHARED_MAX_BYTES,
)

BYTES = "BYTES"
_LENGTH = struct.Struct("<I")


def check_infer(request: InferRequest) -> None:
    """Refuse tensors that aren't what they say they are.

    Raises:
        InputError: names the input, and says what is wrong with it.
    """
    if max(len(request.inputs), len(request.outputs)) > TENSORS_MAX_PER_REQUEST:
        raise InputError(f"a request has at most {TENSORS_MAX_PER_REQUEST} inputs and outputs")
    names: set[str] = set()
    total = 0
    for tensor in request.inputs:
        if tensor.name in names:
            raise InputError(f"input {tensor.name!r:.80} is given twice")
        names.add(tensor.name)
        check_tensor(tensor)
        total += memoryview(tensor.data).nbytes
    if total > TENSORS_SHARED_MAX_BYTES:
        raise InputError(
            f"the inputs are {total} bytes, more than {TENSORS_SHARED_MAX_BYTES}; "
            "send the batch in parts"
        )


def check_tensor(tensor: Tensor) -> None:
    """Refuse a tensor whose type is unknown or whose values don't fill its shape.

    Raises:
        InputError: says which and why.
    """
    name, shape = tensor.name, tensor.shape
    if tensor.datatype != BYTES and tensor.datatype not in ELEMENT_BYTES:
        known = ", ".join((*ELEMENT_BYTES, BYTES))
        raise InputError(
            f"input {name!r:.80} has the type {tensor.datatype!r:.20}; it may be one of {known}"
        )
    if len(shape) > TENSOR_MAX_DIMENSIONS or min(shape, default=0) < 0:
        raise InputError(
            f"input {name!r:.80} can't have the shape {list(shape)!s:.80}: "
            f"sizes are 0 or more, at most {TENSOR_MAX_DIMENSIONS} of them"
        )
    if tensor.datatype == BYTES:
        # The worker counts them: a loop over millions would hold up this process.
        return
    elements, size = math.prod(shape), memoryview(tensor.data).nbytes
    if size != elements * ELEMENT_BYTES[tensor.datatype]:
        raise InputError(
            f"input {name!r:.80} has {size} bytes of values; the shape {list(shape)!s:.80} of "
            f"{tensor.datatype} takes {elements * ELEMENT_BYTES[tensor.datatype]}"
        )


def pack_elements(elements: Sequence[bytes]) -> bytes:
    """Return the data of a BYTES tensor: before each element its length, a little-endian u32."""
    return b"".join(part for one in elements for part in (_LENGTH.pack(len(one)), one))


def unpack_elements(data: Data) -> list[bytes]:
    """Return the elements of a BYTES tensor.

    Raises:
        InputError: a length points past the end.
    """
    view, place, found = memoryview(data).cast("B"), 0, []
    while place < len(view):
        if place + _LENGTH.size > len(view):
            raise InputError("BYTES values end in the middle of a length")
        (length,) = _LENGTH.unpack_from(view, place)
        place += _LENGTH.size
        if place + length > len(view):
            raise InputError("a length in BYTES values points past their end")
        found.append(bytes(view[place : place + length]))
        place += length
    return found


def check_embed(request: EmbedRequest) -> None:
    """Refuse texts that are none, too many or too long.

    Raises:
        InputError: says what to do instead.
    """
    if not 1 <= len(request.texts) <= EMBED_TEXTS_MAX:
        raise InputError(
            f"a request embeds 1 to {EMBED_TEXTS_MAX} texts, not {len(request.texts)}; "
            "send the others in another"
        )
    try:
        size = sum(len(text.encode()) for text in request.texts)
    except UnicodeEncodeError as error:
        # What a shell passes on that is not UTF-8 arrives as lone surrogates.
        raise InputError("a text to embed is not UTF-8; convert it to UTF-8 first") from error
    if size > EMBED_TEXTS_MAX_BYTES:
        raise InputError(
            f"the texts are {size} bytes, more than {EMBED_TEXTS_MAX_BYTES}; send fewer at once"
        )
    if request.dimensions is not None and request.dimensions < 1:
        raise InputError(f"dimensions must be 1 or more, not {request.dimensions}")
