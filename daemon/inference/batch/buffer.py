"""The memory of a shared cache: one tensor per layer and part, for all rows, of a fixed capacity.

Only what was written takes memory: the pages are shared and anonymous, so they come when touched,
can be given back, and don't count against the bound on private memory, which holds for what is
reserved; ``engine`` bounds what is used. On a GPU all of it is taken at once.
"""

from __future__ import annotations

import math
import mmap
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from dreamer.daemon.inference.batch.graph import DecoderGraph, Past
from dreamer.daemon.inference.load_options import CPU
from dreamer.daemon.inference.worker.session import device_index

# Linux: don't set swap aside for what may never be touched. Python 3.11 doesn't name it.
_MAP_NORESERVE = 0x4000


class Buffer:
    """Tensors of (``slots``, heads, ``capacity``, size); ``arrays`` are theirs where the CPU is."""

    def __init__(self, graph: DecoderGraph, slots: int, capacity: int) -> None:
        self.capacity = capacity
        self.arrays: list[NDArray[Any]] | None = None
        self._pasts = graph.pasts
        self._device = ("cpu", 0)
        shapes = [(slots, one.heads, capacity, one.size) for one in graph.pasts]
        if graph.cache_device == CPU:
            self._memory = _reserve(graph.bytes_per_token * slots * capacity)
            self.arrays = _carve(self._memory, graph.pasts, shapes)
            self._pointers = [array.ctypes.data for array in self.arrays]
        else:
            self._device = ort_device(graph.cache_device)
            self._values = [
                onnxruntime.OrtValue.ortvalue_from_shape_and_type(shape, one.element, *self._device)
                for one, shape in zip(graph.pasts, shapes, strict=True)
            ]
            self._pointers = [value.data_ptr() for value in self._values]

    def bind(self, binding: onnxruntime.IOBinding, place: int, rows: int) -> None:
        """Bind these rows as past and present alike."""
        for one, start in zip(self._pasts, self._pointers, strict=True):
            pointer = start + place * self.capacity * one.bytes_per_token
            shape = (rows, one.heads, self.capacity, one.size)
            binding.bind_input(one.name, *self._device, one.element, shape, pointer)
            binding.bind_output(one.present, *self._device, one.element, shape, pointer)

    def trim(self) -> None:
        """Return the pages to the system; what they held is lost."""
        if self.arrays is not None and hasattr(mmap, "MADV_REMOVE"):
            self._memory.madvise(mmap.MADV_REMOVE)


def ort_device(device: str) -> tuple[str, int]:
    """Return what ONNX Runtime calls a GPU: its kind and its index."""
    return "cuda", device_index(device)


def _reserve(size_bytes: int) -> mmap.mmap:
    if not hasattr(mmap, "MAP_ANONYMOUS"):
        return mmap.mmap(-1, size_bytes)
    return mmap.mmap(-1, size_bytes, mmap.MAP_SHARED | mmap.MAP_ANONYMOUS | _MAP_NORESERVE)


def _carve(
    memory: mmap.mmap, pasts: tuple[Past, ...], shapes: list[tuple[int, int, int, int]]
) -> list[NDArray[Any]]:
    arrays, offset = [], 0
    for one, shape in zip(pasts, shapes, strict=True):
        count = math.prod(shape)
        flat = np.frombuffer(memory, one.element, count, offset)
        arrays.append(flat.reshape(shape))
        offset += flat.nbytes
    return arrays
