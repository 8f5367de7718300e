"""The token embedding at the input, and at the output when the two are tied: stored once."""

from __future__ import annotations

import numpy as np

from dreamer.daemon.inference.gguf.blocks import Blocks
from dreamer.daemon.inference.gguf.linear import Dense, Linear, Matrix, as_float
from dreamer.daemon.inference.gguf.nodes import Nodes


class Embedding:
    """A table of one row per token. ``look_up`` comes first, then ``logits`` if it is tied."""

    def __init__(self, nodes: Nodes, linear: Linear, table: Matrix) -> None:
        self._nodes = nodes
        self._linear = linear
        self._table = table
        if isinstance(table, Dense):
            self._codes = nodes.span(table.values, table.element)
        else:
            self._packed_shape = table.packed().shape
            self._codes = nodes.span(table.packed())
            nodes.weight("embed.scales", table.scales)

    def look_up(self, ids: str) -> str:
        """Return the fp32 rows of these tokens."""
        nodes = self._nodes
        if isinstance(self._table, Dense):
            table = nodes.place("embed.weight", self._table.values.shape, self._codes)
            rows = nodes.add("Gather", [table, ids], "embed.rows", axis=0)
            return as_float(nodes, rows, self._table.element, "embed.rows")
        tokens, blocks, width = self._packed_shape
        nodes.place("embed.codes", (tokens, blocks * width), self._codes)
        rows = nodes.add_microsoft(
            "GatherBlockQuantized",
            ["embed.codes", ids, "embed.scales"],
            ["embed.rows"],
            bits=self._table.bits,
            block_size=self._table.block,
            gather_axis=0,
            quantize_axis=1,
        )
        return rows if self._table.offsets is None else self._add_offsets(self._table, rows, ids)

    def _add_offsets(self, table: Blocks, rows: str, ids: str) -> str:
        """Add each block's own offset to the rows that were gathered."""
        nodes = self._nodes
        assert table.offsets is not None
        offsets = nodes.weight("embed.offsets", table.offsets[..., np.newaxis])
        by_block = nodes.constant("embed.by_block", [0, 0, -1, table.block])
        flat = nodes.constant("embed.flat", [0, 0, -1])
        gathered = nodes.add("Gather", [offsets, ids], "embed.row_offsets", axis=0)
        blocks = nodes.add("Reshape", [rows, by_block], "embed.blocks")
        total = nodes.add("Add", [blocks, gathered], "embed.sums")
        return nodes.add("Reshape", [total, flat], "embedded")

    def logits(self, value: str) -> None:
        """Multiply the last hidden state by the same table, into the output ``logits``."""
        nodes, table = self._nodes, self._table
        if isinstance(table, Blocks):
            codes = nodes.place("logits.codes", self._packed_shape, self._codes)
            self._linear.multiply_blocks(value, table, codes, "embed.scales", "logits")
            return
        weight = as_float(nodes, "embed.weight", table.element, "embed.weight")
        turned = nodes.add("Transpose", [weight], "logits.weight", perm=[1, 0])
        nodes.add("MatMul", [value, turned], "logits")
