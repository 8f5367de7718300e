"""Any ONNX graph: what goes in, what comes out, and what is told of inputs that don't fit."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from dreamer.daemon.inference.graphs.tensor_runner import TensorRunner
from dreamer.daemon.inference.load_options import LoadOptions
from dreamer.daemon.inference.tensor_checks import pack_elements, unpack_elements
from dreamer.daemon.inference.tensors import InferRequest, Tensor
from dreamer.daemon.inference.worker.runner import open_runner
from dreamer.protocol.errors import InputError

GraphDir = Callable[..., Path]

ELEMENTS = {
    "BOOL": (TensorProto.BOOL, bytes([1, 0, 0, 1])),
    "UINT8": (TensorProto.UINT8, bytes([0, 1, 254, 255])),
    "UINT16": (TensorProto.UINT16, struct.pack("<4H", 0, 1, 65_534, 65_535)),
    "UINT32": (TensorProto.UINT32, struct.pack("<4I", 0, 1, 7, 2**32 - 1)),
    "UINT64": (TensorProto.UINT64, struct.pack("<4Q", 0, 1, 7, 2**64 - 1)),
    "INT8": (TensorProto.INT8, struct.pack("<4b", 0, -1, 127, -128)),
    "INT16": (TensorProto.INT16, struct.pack("<4h", 0, -1, 7, -(2**15))),
    "INT32": (TensorProto.INT32, struct.pack("<4i", 0, -1, 7, -(2**31))),
    "INT64": (TensorProto.INT64, struct.pack("<4q", 0, -1, 7, -(2**63))),
    "FP16": (TensorProto.FLOAT16, struct.pack("<4e", 0.0, -1.5, 3.25, 6e-8)),
    "FP32": (TensorProto.FLOAT, struct.pack("<4f", 0.0, -1.5, 3.25, 1e-40)),
    "FP64": (TensorProto.DOUBLE, struct.pack("<4d", 0.0, -1.5, 3.25, 1e-310)),
    "BF16": (TensorProto.BFLOAT16, struct.pack("<4H", 0, 0xBFC0, 0x4050, 0x0001)),
    "BYTES": (TensorProto.STRING, pack_elements([b"", b"a\0b", "é😀".encode(), b"x" * 300])),
}


def value(name: str, element: int, shape: list[int | str]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, element, shape)


def opened(directory: Path) -> TensorRunner:
    runner = open_runner(directory, LoadOptions(threads=1))
    assert isinstance(runner, TensorRunner)
    return runner


@pytest.fixture
def identity(graph_dir: GraphDir) -> Callable[[int], TensorRunner]:
    def make(element: int) -> TensorRunner:
        return opened(
            graph_dir(
                [helper.make_node("Identity", ["x"], ["y"])],
                [value("x", element, ["batch", 2])],
                [value("y", element, ["batch", 2])],
            )
        )

    return make


@pytest.fixture
def adder(graph_dir: GraphDir) -> TensorRunner:
    return opened(
        graph_dir(
            [
                helper.make_node("Add", ["a", "b"], ["sum"]),
                helper.make_node("Sub", ["a", "b"], ["difference"]),
            ],
            [value("a", TensorProto.FLOAT, ["n", 3]), value("b", TensorProto.FLOAT, ["n", 3])],
            [value("sum", TensorProto.FLOAT, ["n", 3]), value("difference", TensorProto.FLOAT, [])],
        )
    )


def floats(name: str, *rows: list[float]) -> Tensor:
    array = np.array(rows, np.float32)
    return Tensor(name, "FP32", array.shape, array.tobytes())


@pytest.mark.parametrize("datatype", ELEMENTS)
def test_every_type_comes_back_bit_for_bit(
    identity: Callable[[int], TensorRunner], datatype: str
) -> None:
    element, data = ELEMENTS[datatype]
    (output,) = (
        identity(element).infer(InferRequest((Tensor("x", datatype, (2, 2), data),))).outputs
    )
    assert (output.name, output.datatype, output.shape) == ("y", datatype, (2, 2))
    assert bytes(output.data) == data


@pytest.mark.parametrize("datatype", ELEMENTS)
def test_batch_of_none_is_a_batch(identity: Callable[[int], TensorRunner], datatype: str) -> None:
    element, _ = ELEMENTS[datatype]
    (output,) = identity(element).infer(InferRequest((Tensor("x", datatype, (0, 2), b""),))).outputs
    assert output.shape == (0, 2)
    assert bytes(output.data) == b""


def test_signature_tells_names_types_and_open_sizes(adder: TensorRunner) -> None:
    card = adder.card()
    assert card["kind"] == "tensor"
    assert card["inputs"] == [["a", "FP32", [-1, 3]], ["b", "FP32", [-1, 3]]]
    assert [one[0] for one in card["outputs"]] == ["sum", "difference"]


def test_only_the_outputs_asked_for_come_in_the_order_asked(adder: TensorRunner) -> None:
    inputs = floats("a", [1, 2, 3]), floats("b", [10, 20, 30])
    answer = adder.infer(InferRequest(inputs, ("difference", "sum")))
    assert [one.name for one in answer.outputs] == ["difference", "sum"]
    assert np.frombuffer(answer.outputs[1].data, np.float32).tolist() == [11, 22, 33]
    assert [one.name for one in adder.infer(InferRequest(inputs, ("sum",))).outputs] == ["sum"]
    assert len(adder.infer(InferRequest(inputs)).outputs) == 2


def test_scalar_output_has_no_dimensions(graph_dir: GraphDir) -> None:
    runner = opened(
        graph_dir(
            [helper.make_node("ReduceSum", ["x"], ["y"], keepdims=0)],
            [value("x", TensorProto.FLOAT, ["n"])],
            [value("y", TensorProto.FLOAT, [])],
        )
    )
    data = np.array([1, 2, 4], np.float32).tobytes()
    (output,) = runner.infer(InferRequest((Tensor("x", "FP32", (3,), data),))).outputs
    assert output.shape == ()
    assert struct.unpack("<f", output.data) == (7.0,)


@pytest.mark.parametrize(
    ("inputs", "told"),
    [
        ((floats("a", [1, 2, 3]),), r"also needs the inputs b \(FP32 of the shape \[-1, 3\]"),
        (
            (floats("a", [1, 2, 3]), floats("c", [1, 2, 3])),
            "no input 'c'; it takes a, b",
        ),
        (
            (floats("a", [1, 2, 3]), floats("b", [1, 2])),
            r"input 'b' is FP32 of the shape \[1, 2\]; the model wants FP32 of the shape \[-1, 3\]",
        ),
        (
            (floats("a", [1, 2, 3]), Tensor("b", "INT32", (1, 3), bytes(12))),
            "input 'b' is INT32",
        ),
        (
            (floats("a", [1, 2, 3]), Tensor("b", "FP32", (3,), bytes(12))),
            r"input 'b' is FP32 of the shape \[3\]",
        ),
        (
            (floats("a", [1, 2, 3], [1, 2, 3]), floats("b", [1, 2, 3], [1, 2, 3], [1, 2, 3])),
            "can't be run on these values",
        ),
    ],
)
def test_input_that_does_not_fit_is_named(
    adder: TensorRunner, inputs: tuple[Tensor, ...], told: str
) -> None:
    with pytest.raises(InputError, match=told):
        adder.infer(InferRequest(inputs))


def test_unknown_output_is_named(adder: TensorRunner) -> None:
    request = InferRequest((floats("a", [1, 2, 3]), floats("b", [1, 2, 3])), ("product",))
    with pytest.raises(InputError, match="no output 'product'; it gives sum, difference"):
        adder.infer(request)


def test_text_that_is_not_utf8_is_refused(identity: Callable[[int], TensorRunner]) -> None:
    data = pack_elements([b"\xff", b"ok"])
    with pytest.raises(InputError, match="input 'x' is not UTF-8"):
        identity(TensorProto.STRING).infer(InferRequest((Tensor("x", "BYTES", (1, 2), data),)))


@pytest.mark.parametrize("shape", [(2, 2), (10**9, 2)])
def test_elements_that_do_not_fill_their_shape_are_refused(
    identity: Callable[[int], TensorRunner], shape: tuple[int, ...]
) -> None:
    data = pack_elements([b"a", b"b"])
    with pytest.raises(InputError, match="has 2 elements"):
        identity(TensorProto.STRING).infer(InferRequest((Tensor("x", "BYTES", shape, data),)))


@pytest.mark.parametrize("data", [b"\x01\0\0", b"\x05\0\0\0ab", b"\xff\xff\xff\xff"])
def test_cut_elements_are_refused(data: bytes) -> None:
    with pytest.raises(InputError, match="BYTES"):
        unpack_elements(data)


def test_unaligned_values_are_computed_with(adder: TensorRunner) -> None:
    a, b = floats("a", [1, 2, 3]), floats("b", [10, 20, 30])
    shifted = memoryview(b"\0" + bytes(a.data))[1:]
    answer = adder.infer(InferRequest((Tensor("a", "FP32", (1, 3), shifted), b), ("sum",)))
    assert np.frombuffer(answer.outputs[0].data, np.float32).tolist() == [11, 22, 33]


def test_graph_that_takes_a_sequence_is_refused(graph_dir: GraphDir) -> None:
    sequence = helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, None)
    directory = graph_dir(
        [helper.make_node("SequenceLength", ["s"], ["n"])],
        [sequence],
        [value("n", TensorProto.INT64, [])],
    )
    with pytest.raises(InputError, match=r"input 's' is seq\(tensor\(float\)\)"):
        opened(directory)


def test_output_that_is_no_tensor_is_left_out(graph_dir: GraphDir) -> None:
    runner = opened(
        graph_dir(
            [
                helper.make_node("SequenceConstruct", ["x"], ["s"]),
                helper.make_node("Identity", ["x"], ["y"]),
            ],
            [value("x", TensorProto.FLOAT, [1])],
            [
                helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, None),
                value("y", TensorProto.FLOAT, [1]),
            ],
        )
    )
    answer = runner.infer(InferRequest((Tensor("x", "FP32", (1,), bytes(4)),)))
    assert [one.name for one in answer.outputs] == ["y"]
