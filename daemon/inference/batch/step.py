"""One batched step: a token for each of some rows, its inputs and logits bound once.

Nothing computes between two steps, and what runs there finds the processor's caches full of
weights: a call that takes a microsecond elsewhere takes twenty. So the arrays stay where they are,
and of each only what has changed is written.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from dreamer.daemon.inference.batch.buffer import Buffer
from dreamer.daemon.inference.batch.graph import LOGITS, TOKEN_INPUTS, DecoderGraph
from dreamer.daemon.inference.load_options import CPU

# The mask grows by so many columns at once; those beyond a row's length are zero.
_MASK_STEP_TOKENS = 64

_UNKNOWN = -1


class Step:
    """Steps of the first ``rows`` places of a buffer."""

    def __init__(self, graph: DecoderGraph, buffer: Buffer, rows: int) -> None:
        self._graph = graph
        self._capacity = buffer.capacity
        self._ids, self._positions = np.zeros((rows, 1), np.int64), np.zeros((rows, 1), np.int64)
        # Never without columns: an empty array can't be copied to every device.
        self._mask = np.zeros((rows, min(_MASK_STEP_TOKENS, self._capacity)), np.int64)
        self._known = [_UNKNOWN] * rows
        """How many ones the mask has for each row."""
        # Fetching the outputs would make an object of each tensor of the cache, which takes a
        # quarter of a millisecond.
        self._logits = np.zeros((rows, 1, graph.vocabulary), graph.logits_element)
        self._binding = graph.session.io_binding()
        self._bind_logits()
        buffer.bind(self._binding, 0, rows)
        self._bind_inputs()

    def run(self, tokens: Sequence[int], pasts: Sequence[int]) -> NDArray[np.float32]:
        """Return the logits, (rows, vocabulary); the next step writes over them."""
        self._widen(max(pasts))
        for row, (token, past) in enumerate(zip(tokens, pasts, strict=True)):
            self._ids[row, 0], self._positions[row, 0] = token, past
            if self._known[row] != past:
                self._mask[row, :past], self._mask[row, past:] = 1, 0
            self._mask[row, past] = 1
            self._known[row] = past + 1
        if self._graph.device != CPU:
            # What is bound is copied to the device there and then.
            self._bind_inputs()
        if self._graph.vocabulary:
            run_bound(self._graph, self._binding)
            return as_float(self._logits[:, -1])
        self._bind_logits()
        run_bound(self._graph, self._binding)
        return as_float(self._binding.get_outputs()[0].numpy()[:, -1])

    def _widen(self, past: int) -> None:
        """Have the mask reach beyond the longest row, or not as far as it did."""
        width = (past // _MASK_STEP_TOKENS + 1) * _MASK_STEP_TOKENS
        width = min(width, self._capacity)
        rows, so_far = self._mask.shape
        if width != so_far:
            self._mask = np.zeros((rows, width), np.int64)
            self._known = [_UNKNOWN] * rows
            self._bind_inputs()

    def _bind_inputs(self) -> None:
        arrays = (self._ids, self._mask, self._positions)
        for name, array in zip(TOKEN_INPUTS, arrays, strict=True):
            if name in self._graph.token_inputs:
                pointer = array.ctypes.data
                self._binding.bind_input(name, "cpu", 0, np.int64, array.shape, pointer)

    def _bind_logits(self) -> None:
        logits = self._logits
        if not self._graph.vocabulary:
            # How many there are shows when they come.
            self._binding.bind_output(LOGITS, "cpu")
            return
        pointer, kind = logits.ctypes.data, logits.dtype.type
        self._binding.bind_output(LOGITS, "cpu", 0, kind, logits.shape, pointer)


def as_float(logits: NDArray[Any]) -> NDArray[np.float32]:
    """Return logits as fp32, copied only if they are of another type."""
    return logits.astype(np.float32, copy=False)


def run_bound(graph: DecoderGraph, binding: onnxruntime.IOBinding) -> None:
    """Run a step; what is bound is ready before it, and what came of it after."""
    if graph.device != CPU:
        binding.synchronize_inputs()
    graph.session.run_with_iobinding(binding)
    if graph.device != CPU:
        binding.synchronize_outputs()
