"""The rows of a running batch and the memory that holds their sequences."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from dreamer.daemon.inference.batch.cache import Cache, open_cache
from dreamer.daemon.inference.batch.graph import DecoderGraph
from dreamer.daemon.inference.batch.places import CompactPlaces, FixedPlaces, Places
from dreamer.daemon.inference.batch.prefixes import Prefixes
from dreamer.daemon.inference.batch.row import Row
from dreamer.daemon.inference.load_options import CPU, LoadOptions
from dreamer.protocol.errors import InputError
from dreamer.protocol.inference_limits import (
    BATCH_CACHE_KEPT_BYTES,
    BATCH_CACHE_MAX_BYTES,
    BATCH_CAPACITY_MIN_TOKENS,
    BATCH_FIXED_CHUNK_TOKENS,
    BATCH_GPU_CACHE_MAX_BYTES,
    PREFIX_BLOCK_TOKENS,
)

Logits = NDArray[np.float32]


class Batch:
    """Up to ``slots`` rows. ``capacity`` is the longest sequence that there is memory for.

    All rows together take as many tokens as the memory of ``options`` allows: a row reserves what
    it may come to before it joins, so none runs out half-way.
    """

    def __init__(self, graph: DecoderGraph, options: LoadOptions, context: int) -> None:
        """Reserve the memory.

        Raises:
            InputError: a single token takes more than there is.
            OSError: the system refuses even a short one.
        """
        self.slots = options.slots
        self.rows: dict[int, Row] = {}
        self._bytes_per_token = graph.bytes_per_token
        self._tokens = _budget_bytes(graph, options) // graph.bytes_per_token
        self.capacity = min(context, self._tokens)
        if graph.cache_device != CPU:
            self.capacity = min(context, self._tokens // self.slots)
        if self.capacity < 1:
            raise InputError(
                "the keys and values of one token are more than the memory that a worker may "
                "take; raise [inference] max_memory_mib"
            )
        self._cache = self._open_cache(graph)
        movable = self._cache.movable
        self._places: Places = CompactPlaces() if movable else FixedPlaces(self.slots)
        self._prefixes = Prefixes(options.prefix_cache_bytes if movable else 0)
        self._touched_tokens = 0

    def _open_cache(self, graph: DecoderGraph) -> Cache:
        """Reserve the cache; a system that doesn't reserve what isn't backed gets a smaller one."""
        while True:
            try:
                return open_cache(graph, self.slots, self.capacity)
            except OSError:
                if self.capacity <= BATCH_CAPACITY_MIN_TOKENS:
                    raise
                self.capacity = max(self.capacity // 2, BATCH_CAPACITY_MIN_TOKENS)

    @property
    def share(self) -> int:
        """How long each sequence may become when all slots are taken, in tokens."""
        return self._tokens // self.slots

    @property
    def fixed_chunk(self) -> int:
        """The size that chunks must have, 0 where any but 1 gives the same bits."""
        return 0 if self._cache.any_chunk else BATCH_FIXED_CHUNK_TOKENS

    @property
    def prefix_bytes(self) -> int:
        """What is kept for prompts to come takes so much."""
        return self._prefixes.size_bytes

    def fits(self, row: Row) -> bool:
        """Say whether there is a slot and memory for a row now."""
        reserved = sum(one.answer.last for one in self.rows.values())
        return len(self.rows) < self.slots and reserved + row.answer.last <= self._tokens

    def join(self, row: Row) -> None:
        """Give a row its place, with what is kept of its prompt."""
        place = self._places.join(row.number)
        self.rows[row.number] = row
        step = max(1, self.fixed_chunk // PREFIX_BLOCK_TOKENS)
        # At least two tokens are left to read: a chunk of one has other bits.
        blocks = self._prefixes.match(row.prompt, len(row.prompt) - 2)
        blocks = blocks[: len(blocks) - len(blocks) % step]
        self._cache.copy_in(place, blocks)
        row.past = row.cached = len(blocks) * PREFIX_BLOCK_TOKENS

    def read(self, row: Row, tokens: int) -> Logits:
        """Read so many tokens of a row's prompt; return the logits after the last.

        Raises what ONNX Runtime raises.
        """
        place = self._places.place(row.number)
        ids = row.prompt[row.past : row.past + tokens]
        logits = self._cache.read(place, ids, row.past)
        whole_blocks = row.past // PREFIX_BLOCK_TOKENS
        row.past += len(ids)
        self._touched_tokens += len(ids)
        if row.past // PREFIX_BLOCK_TOKENS > whole_blocks:
            self._keep(row, place)
        return logits

    def begin_decoding(self, row: Row) -> None:
        """Let a row whose prompt is read take part in ``decode``."""
        row.decoding = True
        if swap := self._places.begin_decoding(row.number):
            longest = max(one.past for one in self.rows.values() if one.unread or one is row)
            self._cache.swap(*swap, longest)

    def decode(self) -> Iterator[tuple[Row, Logits]]:
        """Take a step of all rows that decode; yield each with its logits.

        Raises what ONNX Runtime raises, before any row has changed.
        """
        span = [None if one is None else self.rows[one] for one in self._places.span()]
        if not span:
            return
        logits = self._cache.decode(
            [row.token if row else 0 for row in span], [row.past if row else 0 for row in span]
        )
        stepped = [(row, one) for row, one in zip(span, logits, strict=True) if row]
        for row, _ in stepped:
            row.past += row.decoding
        self._touched_tokens += len(stepped)
        yield from ((row, one) for row, one in stepped if row.decoding)

    def leave(self, row: Row) -> None:
        """Free a row's slot at once."""
        del self.rows[row.number]
        rows = {self._places.place(one): self.rows[one] for one in self.rows}
        for source, target in self._places.leave(row.number):
            moved = rows.pop(source)
            self._cache.move(source, target, moved.past)
            rows[target] = moved
        if not self.rows and self._touched_tokens * self._bytes_per_token > BATCH_CACHE_KEPT_BYTES:
            self._cache.trim()
            self._touched_tokens = 0

    def _keep(self, row: Row, place: int) -> None:
        """Keep what was read for prompts that begin alike, as far as there is memory."""
        with suppress(MemoryError):
            self._prefixes.keep(
                row.prompt, row.past, lambda start, end: self._cache.copy_out(place, start, end)
            )


def _budget_bytes(graph: DecoderGraph, options: LoadOptions) -> int:
    """Return what keys and values may take: half of what the process may, weights take the rest."""
    if graph.cache_device == CPU:
        return options.memory_bytes // 2 or BATCH_CACHE_MAX_BYTES
    return options.gpu_memory_bytes // 2 or BATCH_GPU_CACHE_MAX_BYTES
