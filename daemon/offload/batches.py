"""Batches of texts or of a graph's rows: cut into parts, and the parts' answers put together."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from dreamer.daemon.inference.tensor_checks import BYTES
from dreamer.daemon.inference.tensors import (
    ELEMENT_BYTES,
    Embedded,
    EmbedRequest,
    Inferred,
    InferRequest,
    Tensor,
)
from dreamer.protocol.errors import InputError

Request = InferRequest | EmbedRequest
Answer = Inferred | Embedded

_PER_TEXT_BYTES = 8
"""What a text takes beside its own bytes: the tokens that every one begins and ends with."""


def item_sizes(request: Request) -> list[float]:
    """Return how much work each text or row is, in no unit; one item if it can't be cut."""
    if isinstance(request, EmbedRequest):
        return [float(len(text.encode()) + _PER_TEXT_BYTES) for text in request.texts]
    # Elements of BYTES begin wherever the one before ends.
    fixed = all(one.datatype != BYTES and one.shape for one in request.inputs)
    return [1.0] * max(1, request.rows) if request.rows_apart and fixed else [1.0]


def part(request: Request, places: Sequence[int]) -> Request:
    """Return the request for some items only, in the order given."""
    if isinstance(request, EmbedRequest):
        return replace(request, texts=tuple(request.texts[place] for place in places))
    return replace(request, inputs=tuple(_rows(one, places) for one in request.inputs))


def _rows(tensor: Tensor, places: Sequence[int]) -> Tensor:
    row_bytes = math.prod(tensor.shape[1:]) * ELEMENT_BYTES[tensor.datatype]
    view = memoryview(tensor.data).cast("B")
    shape = (len(places), *tensor.shape[1:])
    if list(places) == list(range(places[0], places[0] + len(places))):
        data = view[places[0] * row_bytes : (places[0] + len(places)) * row_bytes]
        return replace(tensor, shape=shape, data=data)
    rows = [view[place * row_bytes : (place + 1) * row_bytes] for place in places]
    return replace(tensor, shape=shape, data=b"".join(rows))


def joined(answers: Sequence[tuple[Sequence[int], Answer]]) -> Answer:
    """Return one answer of those for parts, whose items are at these places of the whole.

    Raises:
        InputError: the outputs are not row by row what the inputs were.
    """
    first = answers[0][1]
    if isinstance(first, Embedded):
        parts = [(places, one.vectors) for places, one in answers if isinstance(one, Embedded)]
        tokens = sum(one.prompt_tokens for _, one in answers if isinstance(one, Embedded))
        return replace(first, vectors=_stacked(parts), prompt_tokens=tokens, **_times(answers))
    outputs = []
    for place in range(len(first.outputs)):
        parts = [(at, one.outputs[place]) for at, one in answers if isinstance(one, Inferred)]
        outputs.append(_stacked(parts))
    return replace(first, outputs=tuple(outputs), **_times(answers))


def _times(answers: Sequence[tuple[Sequence[int], Answer]]) -> dict[str, float]:
    """Return the times of parts that ran side by side."""
    return {
        name: max(getattr(one, name) for _, one in answers)
        for name in ("queue_s", "load_s", "compute_s")
    }


def _stacked(parts: Sequence[tuple[Sequence[int], Tensor]]) -> Tensor:
    first = parts[0][1]
    rest = first.shape[1:]
    for places, one in parts:
        fits = one.datatype == first.datatype != BYTES and one.shape[1:] == rest
        if not fits or not one.shape or one.shape[0] != len(places):
            raise InputError(
                f"output {one.name!r:.80} has no row for each row of the inputs: "
                "run it without asking for the rows to be run apart"
            )
    row_bytes = math.prod(rest) * ELEMENT_BYTES[first.datatype]
    count = sum(len(places) for places, _ in parts)
    data = bytearray(count * row_bytes)
    for places, one in parts:
        view = memoryview(one.data).cast("B")
        for row, place in enumerate(places):
            start = row * row_bytes
            data[place * row_bytes : (place + 1) * row_bytes] = view[start : start + row_bytes]
    return replace(first, shape=(count, *rest), data=data)
