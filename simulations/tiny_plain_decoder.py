"""A decoder in the form that Optimum exports: plain operators, a cache that grows, position ids.

One layer of attention with random weights, for the tokenizer of ``tiny_model``. What it answers
depends on every token before and on its place, so a cache that is wrong shows.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

VOCABULARY = 270
HEADS, SIZE = 2, 8
HIDDEN = HEADS * SIZE
_LONGEST = 1024
_FAR = -1e9


def plain_decoder(seed: int = 0) -> onnx.ModelProto:
    """Return the graph; the same seed gives the same one."""
    random = np.random.default_rng(seed)
    nodes = [*_embedded(), *_attended(), *_chosen()]
    inputs = [_ids("input_ids"), _ids("attention_mask"), _ids("position_ids")]
    outputs = [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["b", "s", VOCABULARY])]
    for part in ("key", "value"):
        inputs.append(_cache(f"past_key_values.0.{part}", "past"))
        outputs.append(_cache(f"present.0.{part}", "total"))
    graph = helper.make_graph(nodes, "plain", inputs, outputs, list(_weights(random)))
    return helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 21)])


def _embedded() -> list[onnx.NodeProto]:
    return [
        helper.make_node("Gather", ["tokens", "input_ids"], ["word"]),
        helper.make_node("Gather", ["places", "position_ids"], ["place"]),
        helper.make_node("Add", ["word", "place"], ["x"]),
    ]


def _heads(name: str) -> list[onnx.NodeProto]:
    return [
        helper.make_node("MatMul", ["x", f"w.{name}"], [f"{name}.flat"]),
        helper.make_node("Reshape", [f"{name}.flat", "split"], [f"{name}.split"]),
        helper.make_node("Transpose", [f"{name}.split"], [name], perm=[0, 2, 1, 3]),
    ]


def _attended() -> list[onnx.NodeProto]:
    past, present = "past_key_values.0", "present.0"
    return [
        *_heads("query"),
        *_heads("key"),
        *_heads("value"),
        helper.make_node("Concat", [f"{past}.key", "key"], [f"{present}.key"], axis=2),
        helper.make_node("Concat", [f"{past}.value", "value"], [f"{present}.value"], axis=2),
        helper.make_node("Transpose", [f"{present}.key"], ["turned"], perm=[0, 1, 3, 2]),
        helper.make_node("MatMul", ["query", "turned"], ["scores"]),
        # A key may be seen from its own place on, where the mask says that it is one.
        helper.make_node("Shape", ["attention_mask"], ["length"], start=1, end=2),
        helper.make_node("Squeeze", ["length"], ["total"]),
        helper.make_node("Range", ["zero", "total", "one"], ["keys"]),
        helper.make_node("Unsqueeze", ["position_ids", "axis2"], ["from"]),
        helper.make_node("LessOrEqual", ["keys", "from"], ["before"]),
        helper.make_node("Cast", ["attention_mask"], ["real"], to=TensorProto.BOOL),
        helper.make_node("Unsqueeze", ["real", "axis1"], ["real3"]),
        helper.make_node("And", ["before", "real3"], ["seen3"]),
        helper.make_node("Unsqueeze", ["seen3", "axis1"], ["seen"]),
        helper.make_node("Where", ["seen", "scores", "far"], ["masked"]),
        helper.make_node("Softmax", ["masked"], ["shares"], axis=-1),
        helper.make_node("MatMul", ["shares", f"{present}.value"], ["mixed"]),
    ]


def _chosen() -> list[onnx.NodeProto]:
    return [
        helper.make_node("Transpose", ["mixed"], ["joined"], perm=[0, 2, 1, 3]),
        helper.make_node("Reshape", ["joined", "flat"], ["attended"]),
        helper.make_node("MatMul", ["attended", "w.out"], ["logits"]),
    ]


def _weights(random: np.random.Generator) -> Iterable[onnx.TensorProto]:
    for name in ("query", "key", "value"):
        yield _named(f"w.{name}", random.normal(0, HIDDEN**-0.5, (HIDDEN, HIDDEN)))
    yield _named("w.out", random.normal(0, 1, (HIDDEN, VOCABULARY)))
    yield _named("tokens", random.normal(0, 1, (VOCABULARY, HIDDEN)))
    yield _named("places", random.normal(0, 1, (_LONGEST, HIDDEN)))
    yield numpy_helper.from_array(np.array(_FAR, np.float32), "far")
    whole = {"split": [0, 0, HEADS, SIZE], "flat": [0, 0, HIDDEN], "axis1": [1], "axis2": [2]}
    for name, value in {**whole, "zero": 0, "one": 1}.items():
        yield numpy_helper.from_array(np.array(value, np.int64), name)


def _named(name: str, values: NDArray[np.float64]) -> onnx.TensorProto:
    return numpy_helper.from_array(values.astype(np.float32), name)


def _ids(name: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.INT64, ["b", f"{name}.length"])


def _cache(name: str, length: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, ["b", HEADS, length, SIZE])
