"""Unpacks ggml's quantised blocks into the form that MatMulNBits takes, value for value.

Every supported type is affine in short blocks: ``weight = scale · integer + minimum``. Here the
integers become unsigned codes around the operator's implicit zero point (8 of 4 bits, 128 of 8),
and what is left of the minimum becomes an ``offset`` per block that the graph adds back exactly
as ``offset · sum(activations of the block)``. Layouts follow ggml's ``dequantize_row_*``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from dreamer.daemon.inference.gguf.reading import LAYOUTS, Tensor, TensorType

Bytes = NDArray[np.uint8]
Floats = NDArray[np.float32]

_SUPER = 256
_NIBBLE_ZERO, _BYTE_ZERO = 8, 128


@dataclass(frozen=True)
class Blocks:
    """Rows of quantised weights: ``scale · (code − zero) + offset`` for each block of a row.

    ``codes`` (rows, columns) hold ``bits`` bits each around ``zero`` = 2^(bits−1); ``scales`` and
    ``offsets`` are (rows, columns / block). No ``offsets`` means that all are zero.
    """

    codes: Bytes
    scales: Floats
    offsets: Floats | None
    bits: int

    @property
    def block(self) -> int:
        """Weights that share one scale."""
        return int(self.codes.shape[1] // self.scales.shape[1])

    def take_rows(self, order: NDArray[np.intp]) -> Blocks:
        """Return these rows in another order."""
        offsets = None if self.offsets is None else self.offsets[order]
        return Blocks(self.codes[order], self.scales[order], offsets, self.bits)

    def above(self, lower: Blocks) -> Blocks | None:
        """Return one taller matrix, or None if ``lower`` is quantised in another form."""
        if (self.bits, self.block) != (lower.bits, lower.block):
            return None
        offsets = None
        if self.offsets is not None and lower.offsets is not None:
            offsets = np.concatenate([self.offsets, lower.offsets])
        elif self.offsets is not lower.offsets:
            return None
        return Blocks(
            np.concatenate([self.codes, lower.codes]),
            np.concatenate([self.scales, lower.scales]),
            offsets,
            self.bits,
        )

    def packed(self) -> Bytes:
        """Return the codes as MatMulNBits stores them: (rows, blocks, bytes), low nibble first."""
        rows, count = self.scales.shape
        if self.bits == 8:
            return self.codes.reshape(rows, count, self.block)
        pairs = self.codes.reshape(rows, count, self.block // 2, 2)
        return pairs[..., 0] | pairs[..., 1] << np.uint8(4)


def unpack(tensor: Tensor) -> Blocks:
    """Return a quantised tensor's blocks; exact, nothing is rounded again."""
    layout = LAYOUTS[tensor.kind]
    raw = tensor.data.reshape(-1, layout.size_bytes)
    codes, scales, offsets, bits = _UNPACK[tensor.kind](raw)
    shape = (tensor.rows, -1)
    return Blocks(
        codes.reshape(tensor.rows, tensor.columns),
        scales.reshape(shape),
        None if offsets is None else offsets.reshape(shape),
        bits,
    )


_Parts = tuple[Bytes, Floats, Floats | None, int]


def _half(raw: Bytes, at: int) -> Floats:
    """Return the little-endian fp16 at byte ``at`` of every block, as (blocks, 1)."""
    return np.ascontiguousarray(raw[:, at : at + 2]).view("<f2").astype(np.float32)


def _nibbles(raw: Bytes) -> Bytes:
    """Return the low nibbles, then the high ones: ggml's order inside a block of 32."""
    return np.concatenate([raw & np.uint8(15), raw >> np.uint8(4)], axis=-1)


def _fifth_bits(raw: Bytes) -> Bytes:
    return np.unpackbits(raw, axis=-1, bitorder="little") * np.uint8(16)


def _q4_0(raw: Bytes) -> _Parts:
    return _nibbles(raw[:, 2:]), _half(raw, 0), None, 4


def _q4_1(raw: Bytes) -> _Parts:
    scale = _half(raw, 0)
    return _nibbles(raw[:, 4:]), scale, _half(raw, 2) + _NIBBLE_ZERO * scale, 4


def _q5_0(raw: Bytes) -> _Parts:
    codes = _nibbles(raw[:, 6:]) | _fifth_bits(raw[:, 2:6])
    return codes + np.uint8(_BYTE_ZERO - 16), _half(raw, 0), None, 8


def _q5_1(raw: Bytes) -> _Parts:
    # Centring 0…31 on the zero point keeps the part that int8 activations carry small.
    scale = _half(raw, 0)
    codes = _nibbles(raw[:, 8:]) | _fifth_bits(raw[:, 4:8])
    return codes + np.uint8(_BYTE_ZERO - 16), scale, _half(raw, 2) + 16 * scale, 8


def _q8_0(raw: Bytes) -> _Parts:
    return raw[:, 2:] ^ np.uint8(_BYTE_ZERO), _half(raw, 0), None, 8


def _k_scales(raw: Bytes) -> tuple[Floats, Floats]:
    """Return the eight 6-bit scales and minimums of a K block times their fp16 factors."""
    low, high, both = raw[:, 4:8], raw[:, 8:12], raw[:, 12:16]
    scales = np.concatenate([low & 63, (both & 15) | (low >> 6 << 4)], axis=1)
    minimums = np.concatenate([high & 63, (both >> 4) | (high >> 6 << 4)], axis=1)
    return _half(raw, 0) * scales, -_half(raw, 2) * minimums


def _q4_k(raw: Bytes) -> _Parts:
    scales, minimums = _k_scales(raw)
    codes = _nibbles(raw[:, 16:].reshape(-1, 4, 32))
    return codes, scales, minimums + _NIBBLE_ZERO * scales, 4


def _q5_k(raw: Bytes) -> _Parts:
    scales, minimums = _k_scales(raw)
    low = _nibbles(raw[:, 48:].reshape(-1, 4, 32)).reshape(-1, 8, 32)
    fifth = raw[:, None, 16:48] >> np.arange(8, dtype=np.uint8)[:, None] & np.uint8(1)
    codes = (low | fifth << np.uint8(4)) + np.uint8(_BYTE_ZERO - 16)
    return codes, scales, minimums + 16 * scales, 8


def _q6_k(raw: Bytes) -> _Parts:
    low = _nibbles(raw[:, :128].reshape(-1, 2, 64)).reshape(-1, 2, 4, 32)
    shifts = np.array([0, 2, 4, 6], np.uint8)[:, None]
    high = raw[:, 128:192].reshape(-1, 2, 1, 32) >> shifts & np.uint8(3)
    codes = (low | high << np.uint8(4)) + np.uint8(_BYTE_ZERO - 32)
    scales = _half(raw, 208) * np.ascontiguousarray(raw[:, 192:208]).view(np.int8)
    return codes, scales.astype(np.float32), None, 8


_UNPACK = {
    TensorType.Q4_0: _q4_0,
    TensorType.Q4_1: _q4_1,
    TensorType.Q5_0: _q5_0,
    TensorType.Q5_1: _q5_1,
    TensorType.Q8_0: _q8_0,
    TensorType.Q4_K: _q4_k,
    TensorType.Q5_K: _q5_k,
    TensorType.Q6_K: _q6_k,
}
