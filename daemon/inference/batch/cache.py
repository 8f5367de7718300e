"""The key-value caches of a batch, in the two ways that decoder graphs allow.

``SharedCache``: one buffer per tensor for all rows, bound as past and present alike; each step
writes in place. Only GroupQueryAttention can do that, and rows of unequal length may share a step:
the mask's ones are each row's length. ``GrowingCache``: each step returns a new, longer tensor,
which is the next step's past; any graph can do that. Its rows take their steps one after another:
to be in one tensor they would have to be padded to one length, and then their sums run in another
order than alone, which is to say that other tokens may come out.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from dreamer.daemon.inference.batch.buffer import Buffer, ort_device
from dreamer.daemon.inference.batch.graph import LOGITS, DecoderGraph
from dreamer.daemon.inference.batch.prefixes import Block
from dreamer.daemon.inference.batch.step import Step, as_float, run_bound
from dreamer.daemon.inference.load_options import CPU

Arrays = dict[str, NDArray[np.int64]]


class Cache(Protocol):
    """Runs steps of several sequences and remembers their keys and values, by place.

    ``past`` is how many tokens a sequence has so far. ``movable`` says whether places can be
    copied, ``any_chunk`` whether chunks of any size (but 1) give the same bits.
    """

    movable: bool
    any_chunk: bool

    def read(self, place: int, ids: Sequence[int], past: int) -> NDArray[np.float32]:
        """Read tokens of one sequence; return the logits after the last, (vocabulary,)."""
        ...

    def decode(self, tokens: Sequence[int], pasts: Sequence[int]) -> NDArray[np.float32]:
        """Take a step of one token at each of the first places; return (places, vocabulary)."""
        ...

    def move(self, source: int, target: int, tokens: int) -> None:
        """Copy a sequence of so many tokens over another place."""
        ...

    def swap(self, one: int, other: int, tokens: int) -> None:
        """Exchange two sequences, of at most so many tokens."""
        ...

    def copy_out(self, place: int, start: int, end: int) -> Block:
        """Return a copy of a sequence's tokens from ``start`` to ``end``."""
        ...

    def copy_in(self, place: int, blocks: Sequence[Block]) -> None:
        """Begin a sequence with what ``copy_out`` gave; with nothing, begin it empty."""
        ...

    def trim(self) -> None:
        """Return memory to the system while there is no sequence."""
        ...


def open_cache(graph: DecoderGraph, slots: int, capacity: int) -> Cache:
    """Return an empty cache for ``slots`` sequences of up to ``capacity`` tokens."""
    if graph.shares_cache:
        return SharedCache(graph, slots, capacity)
    return GrowingCache(graph, slots)


class SharedCache:
    """A cache of fixed capacity, written in place."""

    any_chunk = True

    def __init__(self, graph: DecoderGraph, slots: int, capacity: int) -> None:
        self._graph = graph
        self._buffer = Buffer(graph, slots, capacity)
        self._bindings: dict[int, onnxruntime.IOBinding] = {}
        self._steps: dict[int, Step] = {}
        self.movable = self._buffer.arrays is not None

    def read(self, place: int, ids: Sequence[int], past: int) -> NDArray[np.float32]:
        """Read tokens of one sequence; return the logits after the last, (vocabulary,)."""
        total = past + len(ids)
        arrays = {
            "input_ids": np.array([ids], np.int64),
            "attention_mask": np.ones((1, total), np.int64),
            "position_ids": np.arange(past, total, dtype=np.int64)[np.newaxis],
        }
        return as_float(self._run(place, arrays)[0, -1])

    def decode(self, tokens: Sequence[int], pasts: Sequence[int]) -> NDArray[np.float32]:
        """Take a step of one token at each of the first places; return (places, vocabulary)."""
        rows = len(tokens)
        if rows not in self._steps:
            self._steps[rows] = Step(self._graph, self._buffer, rows)
        return self._steps[rows].run(tokens, pasts)

    def move(self, source: int, target: int, tokens: int) -> None:
        """Copy a sequence of so many tokens over another place."""
        for array in self._arrays():
            array[target, :, :tokens] = array[source, :, :tokens]

    def swap(self, one: int, other: int, tokens: int) -> None:
        """Exchange two sequences, of at most so many tokens."""
        for array in self._arrays():
            kept = array[one, :, :tokens].copy()
            array[one, :, :tokens] = array[other, :, :tokens]
            array[other, :, :tokens] = kept

    def copy_out(self, place: int, start: int, end: int) -> Block:
        """Return a copy of a sequence's tokens from ``start`` to ``end``."""
        return [array[place, :, start:end].copy() for array in self._arrays()]

    def copy_in(self, place: int, blocks: Sequence[Block]) -> None:
        """Begin a sequence with what ``copy_out`` gave; with nothing, begin it empty."""
        start = 0
        for block in blocks:
            end = start + block[0].shape[1]
            for array, part in zip(self._arrays(), block, strict=True):
                array[place, :, start:end] = part
            start = end

    def trim(self) -> None:
        """Return memory to the system while there is no sequence."""
        self._buffer.trim()

    def _arrays(self) -> list[NDArray[Any]]:
        assert self._buffer.arrays is not None, "keys and values on a GPU stay where they are"
        return self._buffer.arrays

    def _run(self, place: int, arrays: Arrays) -> NDArray[Any]:
        binding = self._binding(place)
        for name, array in arrays.items():
            if name in self._graph.token_inputs:
                binding.bind_cpu_input(name, np.ascontiguousarray(array))
        # Bound anew each time: its shape follows the number of tokens.
        binding.bind_output(LOGITS, "cpu")
        run_bound(self._graph, binding)
        return binding.get_outputs()[0].numpy()  # type: ignore[no-any-return]

    def _binding(self, place: int) -> onnxruntime.IOBinding:
        """Return the binding of this place's part of the buffer; it names many tensors."""
        found = self._bindings.get(place)
        if found is None:
            found = self._bindings[place] = self._graph.session.io_binding()
            found.bind_output(LOGITS, "cpu")
            self._buffer.bind(found, place, 1)
        return found


class GrowingCache:
    """A cache that the graph itself lengthens, sequence by sequence."""

    movable = True
    any_chunk = False

    def __init__(self, graph: DecoderGraph, slots: int) -> None:
        self._graph = graph
        self._device = ("cpu", 0) if graph.device == CPU else ort_device(graph.device)
        self._empty = [
            self._value(np.zeros((1, one.heads, 0, one.size), one.element)) for one in graph.pasts
        ]
        self._places = [self._empty] * slots

    def read(self, place: int, ids: Sequence[int], past: int) -> NDArray[np.float32]:
        """Read tokens of one sequence; return the logits after the last, (vocabulary,)."""
        total = past + len(ids)
        arrays = {
            "input_ids": np.array([ids], np.int64),
            "attention_mask": np.ones((1, total), np.int64),
            "position_ids": np.arange(past, total, dtype=np.int64)[np.newaxis],
        }
        binding = self._graph.session.io_binding()
        for name in self._graph.token_inputs:
            binding.bind_cpu_input(name, arrays[name])
        binding.bind_output(LOGITS, "cpu")
        # What comes out stays where it was computed: it goes in again with the next step.
        for one, value in zip(self._graph.pasts, self._places[place], strict=True):
            binding.bind_ortvalue_input(one.name, value)
            binding.bind_output(one.present, *self._device)
        run_bound(self._graph, binding)
        logits, *self._places[place] = binding.get_outputs()
        return as_float(logits.numpy()[0, -1])

    def decode(self, tokens: Sequence[int], pasts: Sequence[int]) -> NDArray[np.float32]:
        """Take a step of one token at each of the first places; return (places, vocabulary)."""
        steps = zip(tokens, pasts, strict=True)
        return np.stack([self.read(at, [token], past) for at, (token, past) in enumerate(steps)])

    def move(self, source: int, target: int, tokens: int) -> None:
        """Put a sequence in another's place."""
        self._places[target] = self._places[source]

    def swap(self, one: int, other: int, tokens: int) -> None:
        """Exchange two sequences."""
        places = self._places
        places[one], places[other] = places[other], places[one]

    def copy_out(self, place: int, start: int, end: int) -> Block:
        """Return a copy of a sequence's tokens from ``start`` to ``end``."""
        return [value.numpy()[0, :, start:end].copy() for value in self._places[place]]

    def copy_in(self, place: int, blocks: Sequence[Block]) -> None:
        """Begin a sequence with what ``copy_out`` gave; with nothing, begin it empty."""
        self._places[place] = self._empty
        if blocks:
            columns = zip(*blocks, strict=True)
            self._places[place] = [
                self._value(np.concatenate(parts, axis=1)[np.newaxis]) for parts in columns
            ]

    def trim(self) -> None:
        """Let go of what the last sequences left."""
        self._places = [self._empty] * len(self._places)

    def _value(self, array: NDArray[Any]) -> onnxruntime.OrtValue:
        return onnxruntime.OrtValue.ortvalue_from_numpy(array, *self._device)
