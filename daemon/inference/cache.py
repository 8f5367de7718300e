"""The key-value cache of one sequence, in the two ways that decoder graphs allow.

``SharedCache``: one buffer per tensor, as long as the whole sequence, bound as past and present
alike; each step writes in place. Only GroupQueryAttention can do that. ``GrowingCache``: each
step returns a new, longer tensor, which is the next step's past; any graph can do that.
"""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from dreamer.daemon.inference.formats import PAST_PREFIX

PRESENT_PREFIX = "present."
LOGITS = "logits"

Arrays = dict[str, NDArray[np.int64]]
CacheShapes = dict[str, tuple[int, int, type[np.generic]]]
"""For each past input: its heads, its head size, its element type."""


class Cache(Protocol):
    """Runs a step of one sequence and remembers its keys and values."""

    def run(self, inputs: Arrays) -> NDArray[Any]:
        """Return the logits of a step, (1, tokens, vocabulary)."""
        ...


class SharedCache:
    """A cache of fixed ``capacity`` tokens, written in place."""

    def __init__(
        self, session: onnxruntime.InferenceSession, shapes: CacheShapes, capacity: int
    ) -> None:
        self._session = session
        self._binding = session.io_binding()
        for name, (heads, size, kind) in shapes.items():
            buffer = _value(np.zeros((1, heads, capacity, size), kind))
            self._binding.bind_ortvalue_input(name, buffer)
            self._binding.bind_ortvalue_output(_present(name), buffer)

    def run(self, inputs: Arrays) -> NDArray[Any]:
        """Return the logits of a step, (1, tokens, vocabulary)."""
        for name, array in inputs.items():
            self._binding.bind_cpu_input(name, array)
        # Bound anew each time: its shape follows the number of tokens.
        self._binding.bind_output(LOGITS, "cpu")
        self._session.run_with_iobinding(self._binding)
        return self._binding.get_outputs()[-1].numpy()  # type: ignore[no-any-return]


class GrowingCache:
    """A cache that the graph itself lengthens."""

    def __init__(self, session: onnxruntime.InferenceSession, shapes: CacheShapes) -> None:
        self._session = session
        self._past = {
            name: _value(np.zeros((1, heads, 0, size), kind))
            for name, (heads, size, kind) in shapes.items()
        }

    def run(self, inputs: Arrays) -> NDArray[Any]:
        """Return the logits of a step, (1, tokens, vocabulary)."""
        names = [LOGITS, *map(_present, self._past)]
        feeds = {name: _value(array) for name, array in inputs.items()} | self._past
        logits, *present = self._session.run_with_ort_values(names, feeds)
        self._past = dict(zip(self._past, present, strict=True))
        return logits.numpy()  # type: ignore[no-any-return]


def _present(past_name: str) -> str:
    return PRESENT_PREFIX + past_name.removeprefix(PAST_PREFIX)


def _value(array: NDArray[Any]) -> onnxruntime.OrtValue:
    return onnxruntime.OrtValue.ortvalue_from_numpy(array)
