"""Tensors as members send them to each other, and what a stranger may send instead."""

from __future__ import annotations

from typing import Any

import msgpack
import pytest

from dreamer.daemon.inference.tensors import EmbedRequest, InferRequest, Tensor
from dreamer.daemon.offload.payload import Payload
from dreamer.daemon.offload.tensor_wire import (
    Head,
    TensorAnswer,
    TensorRequest,
    Values,
    answer_of,
    embed_request,
    heads,
    infer_request,
    tensors,
    texts_tensor,
)
from dreamer.daemon.offload.wire import pack, unpack
from dreamer.protocol.errors import InputError, RemoteProtocolError

GIVEN = (
    Tensor("a", "FP32", (2, 1), bytes(8)),
    Tensor("b", "BYTES", (1,), b"\x03\0\0\0abc"),
    Tensor("c", "BOOL", (), b"\1"),
    Tensor("d", "INT64", (0, 3), b""),
)


def test_tensors_come_through() -> None:
    data = b"".join(bytes(one.data) for one in GIVEN)
    asked = TensorRequest(Values(heads(GIVEN), data), ("y",))
    read = unpack(TensorRequest, pack(asked))
    assert read == asked
    found = tensors(read.values.heads, read.values.inside)
    assert infer_request(read, found) == InferRequest(
        tuple(Tensor(t.name, t.datatype, t.shape, bytes(t.data)) for t in GIVEN), ("y",)
    )


def test_texts_come_through() -> None:
    request = EmbedRequest(("é", "", "a\0b"), truncate=False, dimensions=3)
    one = texts_tensor(request)
    values = Values(heads((one,)), bytes(one.data))
    asked = unpack(TensorRequest, pack(TensorRequest(values, (), False, 3)))
    assert embed_request(asked, tensors(asked.values.heads, asked.values.inside)) == request


def test_payload_is_told_of() -> None:
    values = Values(heads(GIVEN), b"", Payload(7, 10, bytes(32)))
    assert unpack(TensorAnswer, pack(TensorAnswer(values, 1, 0.5))).values == values


@pytest.mark.parametrize("size", [-1, 7, 9])
def test_values_that_do_not_fill_the_tensors_are_refused(size: int) -> None:
    told = (Head("a", "FP32", (2,), size),)
    with pytest.raises(RemoteProtocolError):
        tensors(told, bytes(8))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        msgpack.packb(5),
        msgpack.packb({}),
        msgpack.packb({"values": None}),
        msgpack.packb({"values": {"heads": [{"name": 1}]}}),
        msgpack.packb({"values": {"heads": [["a"]]}}),
        msgpack.packb({"values": {"heads": [], "inside": "text"}}),
        msgpack.packb({"values": {"heads": [], "payload": {"number": "x"}}}),
    ],
)
def test_what_is_no_request_is_refused(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        unpack(TensorRequest, data)


def test_shape_that_can_not_be_sent_is_refused_here() -> None:
    told = Values((Head("a", "FP32", (2**33,), 0),))
    with pytest.raises(InputError):
        pack(TensorRequest(told))


@pytest.mark.parametrize(
    "given", [(), (Tensor("x", "BYTES", (1,), b"\xff\0\0\0"),), (Tensor("x", "B", (), b"x"),) * 2]
)
def test_what_are_no_texts_is_refused(given: Any) -> None:
    with pytest.raises(RemoteProtocolError):
        embed_request(TensorRequest(Values(())), given)


@pytest.mark.parametrize(
    "given", [(), (Tensor("e", "FP64", (1, 1), bytes(8)),), (Tensor("e", "FP32", (2,), bytes(8)),)]
)
def test_what_are_no_vectors_is_refused(given: Any) -> None:
    with pytest.raises(RemoteProtocolError):
        answer_of("embed", TensorAnswer(Values(())), given)
