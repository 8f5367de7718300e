"""The ONNX graph of a Llama decoder, one token stream with a key-value cache.

Inputs ``input_ids``, ``attention_mask`` (batch, past + sequence), ``past_key_values.N.key|value``
(batch, kv_heads, past, head_size); outputs ``logits`` and ``present.N.key|value``: the names that
Optimum gives them, so that other ONNX decoder tools can run the model. Attention is
GroupQueryAttention with its own rotary embedding, so a cache may also be one preallocated buffer
bound as past and present alike.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper

from dreamer.daemon.inference.gguf.embedding import Embedding
from dreamer.daemon.inference.gguf.linear import Dense, Linear, Matrix, as_float, read_matrix
from dreamer.daemon.inference.gguf.llama import Llama
from dreamer.daemon.inference.gguf.nodes import MICROSOFT, Nodes
from dreamer.daemon.inference.gguf.reading import GgufFile

OPSET = 21
IR_VERSION = 10
BATCH, SEQUENCE, PAST, TOTAL = "batch_size", "sequence_length", "past_sequence_length", "total"


Shape = list[str | int]


def build_decoder(
    file: GgufFile, llama: Llama, nodes: Nodes, progress: Callable[[int], None]
) -> onnx.ModelProto:
    """Write the weights and return the graph; ``progress`` hears of each finished layer.

    Raises:
        OSError: the disk is full or fails.
    """
    return _Decoder(file, llama, nodes).build(progress)


class _Decoder:
    def __init__(self, file: GgufFile, llama: Llama, nodes: Nodes) -> None:
        self._file = file
        self._llama = llama
        self._nodes = nodes
        self._linear = Linear(nodes)

    def build(self, progress: Callable[[int], None]) -> onnx.ModelProto:
        embedding = Embedding(self._nodes, self._linear, self._matrix("token_embd"))
        residual = embedding.look_up("input_ids")
        self._lengths()
        self._rotary_caches()
        value = self._first_norm(residual)
        for layer in range(self._llama.layers):
            value, residual = self._layer(layer, value, residual)
            progress(layer + 1)
        if self._llama.tied:
            embedding.logits(value)
        else:
            self._linear.project(value, [self._matrix("output")], "logits")
        return self._model()

    def _layer(self, layer: int, value: str, residual: str) -> tuple[str, str]:
        """Add one block; ``value`` is the normalised ``residual``."""
        block = f"blk.{layer}"
        attended = self._attention(layer, value)
        value, residual = self._add_and_norm(attended, residual, f"{block}.ffn_norm")
        fed = self._feed_forward(block, value)
        last = layer + 1 == self._llama.layers
        norm = "output_norm" if last else f"blk.{layer + 1}.attn_norm"
        return self._add_and_norm(fed, residual, norm)

    def _attention(self, layer: int, value: str) -> str:
        block, llama = f"blk.{layer}", self._llama
        heads = [
            self._matrix(f"{block}.attn_q").take_rows(_unrotated(llama.heads, llama.head_size)),
            self._matrix(f"{block}.attn_k").take_rows(_unrotated(llama.kv_heads, llama.head_size)),
            self._matrix(f"{block}.attn_v"),
        ]
        packed = self._linear.project(value, heads, f"{block}.qkv")
        past = [f"past_key_values.{layer}.key", f"past_key_values.{layer}.value"]
        present = [f"present.{layer}.key", f"present.{layer}.value"]
        lengths = ["last_position", "total_length", "rope.cos", "rope.sin"]
        attended = self._nodes.add_microsoft(
            "GroupQueryAttention",
            [packed, "", "", *past, *lengths],
            [f"{block}.attended", *present],
            num_heads=llama.heads,
            kv_num_heads=llama.kv_heads,
            do_rotary=1,
        )
        return self._linear.project(
            attended, [self._matrix(f"{block}.attn_output")], f"{block}.attn_out"
        )

    def _feed_forward(self, block: str, value: str) -> str:
        both = [self._matrix(f"{block}.ffn_gate"), self._matrix(f"{block}.ffn_up")]
        wide = self._linear.project(value, both, f"{block}.gate_up")
        gate, up = self._nodes.split(wide, [f"{block}.gate", f"{block}.up"])
        # x · sigmoid(1 · x) is SiLU: QuickGelu is the one fused kernel that computes it.
        silu = self._nodes.add_microsoft("QuickGelu", [gate], [f"{block}.silu"], alpha=1.0)
        product = self._nodes.add("Mul", [silu, up], f"{block}.gated")
        return self._linear.project(
            product, [self._matrix(f"{block}.ffn_down")], f"{block}.ffn_out"
        )

    def _first_norm(self, residual: str) -> str:
        return self._nodes.add(
            "SimplifiedLayerNormalization",
            [residual, self._vector("blk.0.attn_norm")],
            "blk.0.attn_norm",
            axis=-1,
            epsilon=self._llama.norm_epsilon,
        )

    def _add_and_norm(self, value: str, residual: str, norm: str) -> tuple[str, str]:
        """Return the normalised sum and the sum itself."""
        total = f"{norm}.residual"
        normed = self._nodes.add_microsoft(
            "SkipSimplifiedLayerNormalization",
            [value, residual, self._vector(norm)],
            [norm, "", "", total],
            epsilon=self._llama.norm_epsilon,
        )
        return normed, total

    def _lengths(self) -> None:
        """Derive from the mask what GroupQueryAttention asks for, as int32."""
        nodes = self._nodes
        first, second = nodes.constant("axis.1", [1]), nodes.constant("index.1", 1)
        seen = nodes.add("ReduceSum", ["attention_mask", first], "mask.seen", keepdims=0)
        last = nodes.add("Sub", [seen, second], "mask.last")
        nodes.add("Cast", [last], "last_position", to=TensorProto.INT32)
        shape = nodes.add("Shape", ["attention_mask"], "mask.shape")
        width = nodes.add("Gather", [shape, second], "mask.width", axis=0)
        nodes.add("Cast", [width], "total_length", to=TensorProto.INT32)

    def _rotary_caches(self) -> None:
        llama = self._llama
        exponents = np.arange(0, llama.head_size, 2) / llama.head_size
        frequencies = llama.rope_base**-exponents / llama.rope_scale
        if llama.rope_factors is not None:
            frequencies = frequencies / llama.rope_factors
        angles = np.arange(llama.context)[:, None] * frequencies
        self._nodes.weight("rope.cos", np.cos(angles).astype(np.float32))
        self._nodes.weight("rope.sin", np.sin(angles).astype(np.float32))

    def _matrix(self, name: str) -> Matrix:
        return read_matrix(self._file.tensors[f"{name}.weight"])

    def _vector(self, name: str) -> str:
        values = read_matrix(self._file.tensors[f"{name}.weight"])
        assert isinstance(values, Dense)
        span = self._nodes.span(values.values, values.element)
        stored = self._nodes.place(f"{name}.weight", (values.values.size,), span)
        return as_float(self._nodes, stored, values.element, name)

    def _model(self) -> onnx.ModelProto:
        llama = self._llama
        inputs = [_ids("input_ids", SEQUENCE), _ids("attention_mask", TOTAL)]
        outputs = [_floats("logits", [BATCH, SEQUENCE, llama.vocabulary])]
        for layer in range(llama.layers):
            for part in ("key", "value"):
                past: Shape = [BATCH, llama.kv_heads, PAST, llama.head_size]
                inputs.append(_floats(f"past_key_values.{layer}.{part}", past))
                present: Shape = [BATCH, llama.kv_heads, TOTAL, llama.head_size]
                outputs.append(_floats(f"present.{layer}.{part}", present))
        graph = helper.make_graph(
            self._nodes.nodes, "llama", inputs, outputs, self._nodes.initializers
        )
        opsets = [helper.make_opsetid("", OPSET), helper.make_opsetid(MICROSOFT, 1)]
        return helper.make_model(
            graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="dreamer"
        )


def _unrotated(heads: int, head_size: int) -> NDArray[np.intp]:
    """Return the row order that undoes llama.cpp's interleaving of the two halves of each head."""
    rows = np.arange(heads * head_size).reshape(heads, head_size // 2, 2)
    return rows.transpose(0, 2, 1).reshape(-1)


def _ids(name: str, width: str) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.INT64, [BATCH, width])


def _floats(name: str, shape: Shape) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
