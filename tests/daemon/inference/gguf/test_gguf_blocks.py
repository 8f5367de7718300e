"""Unpacked blocks hold exactly the values that the gguf package dequantises."""

from __future__ import annotations

import gguf
import numpy as np
import pytest

from dreamer.daemon.inference.gguf.blocks import Blocks, unpack
from dreamer.daemon.inference.gguf.reading import LAYOUTS, Tensor, TensorType

ROWS, COLUMNS = 6, 512
# Where a type keeps fp16 factors: random bytes there could be infinite or not a number.
HALVES = {
    TensorType.Q4_0: (0,),
    TensorType.Q4_1: (0, 2),
    TensorType.Q5_0: (0,),
    TensorType.Q5_1: (0, 2),
    TensorType.Q8_0: (0,),
    TensorType.Q4_K: (0, 2),
    TensorType.Q5_K: (0, 2),
    TensorType.Q6_K: (208,),
}


def random_tensor(kind: TensorType) -> Tensor:
    """Every bit pattern a block can hold, as likely as any other."""
    random, layout = np.random.default_rng(int(kind)), LAYOUTS[kind]
    count = ROWS * COLUMNS // layout.values
    raw = random.integers(0, 256, (count, layout.size_bytes), dtype=np.uint8)
    for at in HALVES[kind]:
        raw[:, at : at + 2] = random.normal(size=(count, 1)).astype("<f2").view(np.uint8)
    return Tensor("any", kind, ROWS, COLUMNS, raw.reshape(-1))


def values(blocks: Blocks) -> np.ndarray:
    codes = blocks.codes.astype(np.float32).reshape(ROWS, -1, blocks.block)
    weights = (codes - 2 ** (blocks.bits - 1)) * blocks.scales[..., None]
    if blocks.offsets is not None:
        weights = weights + blocks.offsets[..., None]
    return weights.reshape(ROWS, COLUMNS)


@pytest.mark.parametrize("kind", HALVES, ids=lambda kind: kind.name)
def test_unpacked_values_are_the_dequantised_ones(kind: TensorType) -> None:
    tensor = random_tensor(kind)
    expected = gguf.quants.dequantize(
        tensor.data.reshape(ROWS, -1), gguf.GGMLQuantizationType(int(kind))
    )
    np.testing.assert_allclose(values(unpack(tensor)), expected, rtol=1e-6, atol=1e-4)


@pytest.mark.parametrize("kind", LAYOUTS, ids=lambda kind: kind.name)
def test_layouts_are_those_of_ggml(kind: TensorType) -> None:
    assert tuple(LAYOUTS[kind]) == gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType(int(kind))]


def test_nibbles_pack_low_first() -> None:
    blocks = unpack(random_tensor(TensorType.Q4_0))
    packed = blocks.packed()
    assert packed.shape == (ROWS, COLUMNS // 32, 16)
    assert packed[0, 0, 0] == blocks.codes[0, 0] | blocks.codes[0, 1] << 4


def test_matrices_of_different_forms_do_not_stack() -> None:
    four, minimum, eight = (
        unpack(random_tensor(kind)) for kind in (TensorType.Q4_0, TensorType.Q4_1, TensorType.Q8_0)
    )
    assert four.above(eight) is None
    assert four.above(minimum) is None
    stacked = minimum.above(minimum)
    assert stacked is not None
    assert stacked.codes.shape == (2 * ROWS, COLUMNS)
