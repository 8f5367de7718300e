"""Reads a GGUF container: typed key-value metadata, then tensors at aligned offsets.

Format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3, little
endian. Every length comes from the file, so each is checked against what is left before it is
used; a file that ends early is told apart from a file of another kind.
"""

from __future__ import annotations

import mmap
import struct
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from dreamer.protocol.errors import InputError
from dreamer.protocol.inference_limits import (
    GGUF_MAX_TENSORS,
    GGUF_METADATA_MAX_BYTES,
)

MAGIC = b"GGUF"
VERSIONS = (2, 3)
DEFAULT_ALIGNMENT = 32
MAX_DIMENSIONS = 4

MetadataValue = int | float | bool | str | list["MetadataValue"]

_SCALARS = dict(zip((0, 1, 2, 3, 4, 5, 6, 7, 10, 11, 12), "BbHhIif?Qqd", strict=True))
_STRING, _ARRAY = 8, 9


class Layout(NamedTuple):
    """How a tensor type packs values: ``values`` of them in ``size_bytes``."""

    values: int
    size_bytes: int


class TensorType(IntEnum):
    """The ggml tensor types that can be imported without loss, by their number in the file."""

    F32 = 0
    F16 = 1
    Q4_0 = 2
    Q4_1 = 3
    Q5_0 = 6
    Q5_1 = 7
    Q8_0 = 8
    Q4_K = 12
    Q5_K = 13
    Q6_K = 14
    BF16 = 30


LAYOUTS = {
    TensorType.F32: Layout(1, 4),
    TensorType.F16: Layout(1, 2),
    TensorType.BF16: Layout(1, 2),
    TensorType.Q4_0: Layout(32, 18),
    TensorType.Q4_1: Layout(32, 20),
    TensorType.Q5_0: Layout(32, 22),
    TensorType.Q5_1: Layout(32, 24),
    TensorType.Q8_0: Layout(32, 34),
    TensorType.Q4_K: Layout(256, 144),
    TensorType.Q5_K: Layout(256, 176),
    TensorType.Q6_K: Layout(256, 210),
}


@dataclass(frozen=True)
class Tensor:
    """One tensor: ``rows`` × ``columns`` (a vector is one row); ``data`` maps the file."""

    name: str
    kind: TensorType
    rows: int
    columns: int
    data: NDArray[np.uint8]


@dataclass(frozen=True)
class GgufFile:
    """What a GGUF file holds."""

    metadata: dict[str, MetadataValue]
    tensors: dict[str, Tensor]
    size_bytes: int


def read_gguf(path: Path) -> GgufFile:
    """Open a GGUF file; tensor data stays on disk until it is touched.

    Raises:
        InputError: not there, not GGUF, cut short, or a tensor type that can't be imported.
    """
    try:
        with path.open("rb") as stream:
            size_bytes = path.stat().st_size
            magic = stream.read(4)
            if magic != MAGIC:
                raise InputError(f"{path} is not a GGUF file; `dreamer import` takes a .gguf model")
            data = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
    except OSError as error:
        raise InputError(f"can't read {path}: {error.strerror}; check the path") from error
    return _parse(_Cursor(data, path), size_bytes)


class _Cursor:
    """Reads the header front to back and never past its end."""

    def __init__(self, data: mmap.mmap, path: Path) -> None:
        self._data = data
        self._end = min(len(data), GGUF_METADATA_MAX_BYTES)
        self.path = path
        self.at = len(MAGIC)

    def take(self, size_bytes: int) -> bytes:
        if size_bytes > self._end - self.at:
            raise self.truncated()
        start, self.at = self.at, self.at + size_bytes
        return self._data[start : self.at]

    def scalar(self, code: str) -> int | float | bool:
        (value,) = struct.unpack("<" + code, self.take(struct.calcsize("<" + code)))
        return value  # type: ignore[no-any-return]

    def count(self, code: str = "Q") -> int:
        return int(self.scalar(code))

    def string(self) -> str:
        return self.take(self.count()).decode("utf-8", "surrogateescape")

    def view(self, offset: int, size_bytes: int) -> NDArray[np.uint8]:
        if offset + size_bytes > len(self._data):
            raise self.truncated()
        return np.frombuffer(self._data, np.uint8, size_bytes, offset)

    def truncated(self) -> InputError:
        return InputError(f"{self.path} is cut short or damaged; download it again")


def _parse(cursor: _Cursor, size_bytes: int) -> GgufFile:
    version = cursor.count("I")
    if version not in VERSIONS:
        raise InputError(
            f"{cursor.path} is GGUF version {version}; versions 2 and 3 can be imported, "
            "convert it with a current llama.cpp"
        )
    tensor_count, key_count = cursor.count(), cursor.count()
    if tensor_count > GGUF_MAX_TENSORS:
        raise cursor.truncated()
    metadata = {}
    for _ in range(key_count):
        key = cursor.string()
        metadata[key] = _value(cursor, cursor.count("I"))
    headers = [_tensor_header(cursor) for _ in range(tensor_count)]
    alignment = metadata.get("general.alignment", DEFAULT_ALIGNMENT)
    if not isinstance(alignment, int) or alignment < 1:
        raise cursor.truncated()
    start = -(-cursor.at // alignment) * alignment
    tensors = [_tensor(cursor, start, *header) for header in headers]
    return GgufFile(metadata, {tensor.name: tensor for tensor in tensors}, size_bytes)


def _value(cursor: _Cursor, kind: int) -> MetadataValue:
    if kind in _SCALARS:
        return cursor.scalar(_SCALARS[kind])
    if kind == _STRING:
        return cursor.string()
    if kind != _ARRAY:
        raise cursor.truncated()
    item, count = cursor.count("I"), cursor.count()
    if item in _SCALARS:
        data = cursor.take(count * struct.calcsize("<" + _SCALARS[item]))
        return list(struct.unpack(f"<{count}{_SCALARS[item]}", data))
    if item != _STRING:
        raise cursor.truncated()
    return [cursor.string() for _ in range(count)]


def _tensor_header(cursor: _Cursor) -> tuple[str, list[int], int, int]:
    name, dimensions = cursor.string(), cursor.count("I")
    if not 1 <= dimensions <= MAX_DIMENSIONS:
        raise cursor.truncated()
    shape = [cursor.count() for _ in range(dimensions)]
    return name, shape, cursor.count("I"), cursor.count()


def _tensor(
    cursor: _Cursor, start: int, name: str, shape: list[int], number: int, offset: int
) -> Tensor:
    try:
        kind = TensorType(number)
    except ValueError:
        known = ", ".join(kind.name for kind in TensorType)
        raise InputError(
            f"tensor {name} of {cursor.path} has ggml type {number}, which can't be imported; "
            f"use a file quantised as one of {known} (Q4_K_M and Q8_0 files are)"
        ) from None
    columns, rows = shape[0], 1
    for dimension in shape[1:]:
        rows *= dimension
    layout = LAYOUTS[kind]
    if columns % layout.values or not columns or not rows:
        raise cursor.truncated()
    data = cursor.view(start + offset, rows * columns // layout.values * layout.size_bytes)
    return Tensor(name, kind, rows, columns, data)
