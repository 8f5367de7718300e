"""Batches cut into parts and put together again."""

from __future__ import annotations

import struct

import pytest

from dreamer.daemon.inference.tensors import (
    Embedded,
    EmbedRequest,
    Inferred,
    InferRequest,
    Tensor,
)
from dreamer.daemon.offload.batches import item_sizes, joined, part
from dreamer.protocol.errors import InputError


def rows(name: str, *values: tuple[int, ...]) -> Tensor:
    flat = [number for row in values for number in row]
    return Tensor(
        name, "INT16", (len(values), len(values[0])), struct.pack(f"<{len(flat)}h", *flat)
    )


def values(tensor: Tensor) -> list[int]:
    return list(struct.unpack(f"<{len(bytes(tensor.data)) // 2}h", tensor.data))


X = rows("x", (1, 2), (3, 4), (5, 6), (7, 8))


def test_texts_weigh_what_they_have_in_bytes() -> None:
    short, long = item_sizes(EmbedRequest(("a", "é" * 100)))
    assert long - short == 199


@pytest.mark.parametrize(
    "request_",
    [
        InferRequest((X,)),
        InferRequest((X, rows("y", (1, 2))), rows_apart=True),
        InferRequest((Tensor("x", "BYTES", (2,), b"\x01\0\0\0a\x01\0\0\0b"),), rows_apart=True),
        InferRequest((Tensor("x", "INT16", (), b"\0\0"),), rows_apart=True),
        InferRequest((Tensor("x", "INT16", (0, 2), b""),), rows_apart=True),
        InferRequest((), rows_apart=True),
    ],
)
def test_what_can_not_be_cut_is_one_item(request_: InferRequest) -> None:
    assert item_sizes(request_) == [1.0]


def test_rows_are_cut_where_the_request_says_that_they_are_apart() -> None:
    request = InferRequest((X, rows("y", (9,), (8,), (7,), (6,))), rows_apart=True)
    assert len(item_sizes(request)) == 4
    for places in ([1, 2], [3, 0]):
        cut = part(request, places)
        assert isinstance(cut, InferRequest)
        assert [one.shape for one in cut.inputs] == [(2, 2), (2, 1)]
        expected = [number for place in places for number in values(X)[2 * place : 2 * place + 2]]
        assert values(cut.inputs[0]) == expected


def test_parts_come_together_in_order_whoever_did_them() -> None:
    first, second = rows("out", (30,), (0,)), rows("out", (10,), (20,))
    answer = joined(
        [([3, 0], Inferred((first,), 1.0, 0.0, 2.0)), ([1, 2], Inferred((second,), 0.5, 3.0, 1.0))]
    )
    assert isinstance(answer, Inferred)
    assert values(answer.outputs[0]) == [0, 10, 20, 30]
    assert (answer.queue_s, answer.load_s, answer.compute_s) == (1.0, 3.0, 2.0)


def test_vectors_come_together_and_tokens_are_added() -> None:
    def embedded(*numbers: float) -> Embedded:
        data = struct.pack(f"<{len(numbers)}f", *numbers)
        return Embedded(Tensor("embedding", "FP32", (len(numbers), 1), data), 10)

    answer = joined([([1], embedded(1.0)), ([0, 2], embedded(0.0, 2.0))])
    assert isinstance(answer, Embedded)
    assert answer.prompt_tokens == 20
    assert struct.unpack("<3f", answer.vectors.data) == (0.0, 1.0, 2.0)
    assert answer.vectors.shape == (3, 1)


@pytest.mark.parametrize(
    "output",
    [
        rows("out", (1,)),
        Tensor("out", "INT16", (), b"\0\0"),
        Tensor("out", "BYTES", (2,), b"\0\0\0\0\0\0\0\0"),
    ],
)
def test_output_without_a_row_for_each_row_is_refused(output: Tensor) -> None:
    with pytest.raises(InputError, match="output 'out' has no row for each row"):
        joined([([0, 1], Inferred((output,)))])
