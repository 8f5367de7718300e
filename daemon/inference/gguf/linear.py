"""Matrix products with GGUF weights as ONNX nodes, exact in the weights.

A quantised matrix becomes ``MatMulNBits`` on its codes and scales, plus, where blocks have a
minimum, ``offsets · block sums of the input``: the part of the product that integer codes around
a fixed zero point can't carry. All that multiply the same input share the block sums.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray

from dreamer.daemon.inference.gguf.blocks import Blocks, unpack
from dreamer.daemon.inference.gguf.nodes import Nodes
from dreamer.daemon.inference.gguf.reading import Tensor, TensorType

# Level 4 quantises activations to int8 block by block: some fifteen times faster to decode than
# level 0 on a CPU, at a KL divergence of 0.005 from it for SmolLM2-135M.
ACCURACY_LEVEL = 4

_STORED: dict[TensorType, tuple[type[np.generic], int]] = {
    TensorType.F32: (np.float32, onnx.TensorProto.FLOAT),
    TensorType.F16: (np.float16, onnx.TensorProto.FLOAT16),
    TensorType.BF16: (np.uint16, onnx.TensorProto.BFLOAT16),
}


@dataclass(frozen=True)
class Dense:
    """A matrix kept as plain numbers of an ONNX element type; bfloat16 as its bits."""

    values: NDArray[np.generic]
    element: int

    def take_rows(self, order: NDArray[np.intp]) -> Dense:
        """Return these rows in another order."""
        return Dense(self.values[order], self.element)


Matrix = Dense | Blocks


def read_matrix(tensor: Tensor) -> Matrix:
    """Return a tensor's values in the form that the graph will hold."""
    if tensor.kind not in _STORED:
        return unpack(tensor)
    kind, element = _STORED[tensor.kind]
    return Dense(tensor.data.view(kind).reshape(tensor.rows, tensor.columns), element)


def as_float(nodes: Nodes, value: str, element: int, name: str) -> str:
    """Return ``value`` as fp32; ONNX Runtime folds the cast of a stored weight when it loads."""
    if element == onnx.TensorProto.FLOAT:
        return value
    return nodes.add("Cast", [value], f"{name}.float", to=onnx.TensorProto.FLOAT)


class Linear:
    """Adds matrix products to a graph."""

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes
        self._sums: dict[tuple[str, int], str] = {}

    def project(self, value: str, matrices: list[Matrix], name: str) -> str:
        """Multiply ``value`` (batch, sequence, columns) by the rows of all these matrices."""
        stacks = _stack(matrices)
        if len(stacks) == 1:
            return self._product(value, stacks[0], name)
        parts = [self._product(value, one, f"{name}.{index}") for index, one in enumerate(stacks)]
        return self._nodes.add("Concat", parts, name, axis=-1)

    def _product(self, value: str, one: Matrix, name: str) -> str:
        nodes = self._nodes
        if isinstance(one, Dense):
            span = nodes.span(one.values.T, one.element)
            stored = nodes.place(f"{name}.weight", one.values.T.shape, span)
            return nodes.add("MatMul", [value, as_float(nodes, stored, one.element, name)], name)
        codes = nodes.weight(f"{name}.codes", one.packed())
        scales = nodes.weight(f"{name}.scales", one.scales)
        return self.multiply_blocks(value, one, codes, scales, name)

    def multiply_blocks(self, value: str, one: Blocks, codes: str, scales: str, name: str) -> str:
        """Multiply by a quantised matrix whose codes and scales are stored already."""
        if one.offsets is None:
            return self._multiply_codes(value, one, codes, scales, name)
        scaled = self._multiply_codes(value, one, codes, scales, f"{name}.scaled")
        offsets = self._nodes.weight(f"{name}.offsets", one.offsets.T)
        sums = self._block_sums(value, one.block)
        rest = self._nodes.add("MatMul", [sums, offsets], f"{name}.rest")
        return self._nodes.add("Add", [scaled, rest], name)

    def _multiply_codes(self, value: str, one: Blocks, codes: str, scales: str, name: str) -> str:
        rows, columns = one.codes.shape
        return self._nodes.add_microsoft(
            "MatMulNBits",
            [value, codes, scales],
            [name],
            K=columns,
            N=rows,
            bits=one.bits,
            block_size=one.block,
            accuracy_level=ACCURACY_LEVEL,
        )

    def _block_sums(self, value: str, block: int) -> str:
        """Return the sums of ``value`` by block, (batch, sequence, blocks).

        ``AveragePool`` would be one operator, as fast for one token, but for eight rows it takes
        two to three times as long: a twentieth of a step's whole time.
        """
        key, nodes = (value, block), self._nodes
        if key not in self._sums:
            by_block = nodes.constant(f"{value}.by_block{block}", [0, 0, -1, block])
            last = nodes.constant(f"{value}.last{block}", [-1])
            blocks = nodes.add("Reshape", [value, by_block], f"{value}.blocks{block}")
            name = f"{value}.sums{block}"
            self._sums[key] = nodes.add("ReduceSum", [blocks, last], name, keepdims=0)
        return self._sums[key]


def _stack(matrices: list[Matrix]) -> list[Matrix]:
    """Join neighbours of the same form into one taller matrix: fewer, larger products."""
    stacks: list[Matrix] = []
    for one in matrices:
        joined = _join(stacks[-1], one) if stacks else None
        if joined is None:
            stacks.append(one)
        else:
            stacks[-1] = joined
    return stacks


def _join(upper: Matrix, lower: Matrix) -> Matrix | None:
    if isinstance(upper, Dense) and isinstance(lower, Dense) and upper.element == lower.element:
        return Dense(np.concatenate([upper.values, lower.values]), upper.element)
    if isinstance(upper, Blocks) and isinstance(lower, Blocks):
        return upper.above(lower)
    return None
