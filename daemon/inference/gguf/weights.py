"""Writes weights once, in order, into the one external data file of an ONNX model.

https://onnx.ai/onnx/repo-docs/ExternalData.html. A ``Span`` may be named by several initialisers
of different shapes: a tied embedding is stored once and serves both ends of the network.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

DATA_NAME = "model.onnx.data"
ALIGNMENT_BYTES = 64
PAGE_BYTES = 4096


@dataclass(frozen=True)
class Span:
    """Where an array lies in the data file, and its ONNX element type."""

    offset: int
    size_bytes: int
    element: int


class WeightFile:
    """An external data file being written; a context manager."""

    def __init__(self, directory: Path) -> None:
        self._stream = (directory / DATA_NAME).open("xb")

    def __enter__(self) -> WeightFile:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stream.close()

    def write(self, array: NDArray[Any], element: int | None = None) -> Span:
        """Append an array; ``element`` names an ONNX type that numpy lacks (bfloat16).

        Raises:
            OSError: the disk is full or fails.
        """
        data = np.ascontiguousarray(array)
        # Large arrays start on a page, so that they can be mapped; small ones on a cache line.
        alignment = PAGE_BYTES if data.nbytes >= PAGE_BYTES else ALIGNMENT_BYTES
        self._stream.write(bytes(-self._stream.tell() % alignment))
        offset = self._stream.tell()
        self._stream.write(data.data.cast("B") if data.size else b"")
        kind = element or onnx.helper.np_dtype_to_tensor_dtype(data.dtype)
        return Span(offset, data.nbytes, kind)


def initializer(name: str, shape: tuple[int, ...], span: Span) -> onnx.TensorProto:
    """Return the initialiser that reads ``span`` as an array of this shape."""
    tensor = onnx.TensorProto(name=name, dims=shape, data_type=span.element)
    tensor.data_location = onnx.TensorProto.EXTERNAL
    where = {"location": DATA_NAME, "offset": span.offset, "length": span.size_bytes}
    for key, value in where.items():
        tensor.external_data.add(key=key, value=str(value))
    return tensor
