"""Who fetches which run of blocks from a source that is not to be asked for anything twice.

Highest random weight ("rendezvous") hashing: every node gives each run of blocks a weight of its
own, and a run belongs to the node whose weight is the highest. Nodes that know of the same others
agree without a word said, and one that comes or goes moves only the runs that are its own
(Thaler and Ravishankar 1998).
"""

from __future__ import annotations

from collections.abc import Iterable

from blake3 import blake3

from dreamer.protocol.limits import RENDEZVOUS_RUNS
from dreamer.protocol.swarm import bitfield
from dreamer.protocol.swarm.vocabulary import SourceId

_WORD = (1 << 64) - 1


def run_blocks(block_count: int) -> int:
    """Return how many blocks make a run: every node of a model must come to the same number."""
    return max(block_count // RENDEZVOUS_RUNS, 1)


def seed_of(node: SourceId) -> int:
    """Return the number that a node's weights are made of."""
    return int.from_bytes(blake3(node.encode()).digest(length=8), "little")


def weight(seed: int, run: int) -> int:
    """Return a node's weight for a run: the mixing steps of splitmix64."""
    mixed = (seed + (run + 1) * 0x9E3779B97F4A7C15) & _WORD
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _WORD
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _WORD
    return mixed ^ (mixed >> 31)


class Shares:
    """The runs of one model, divided among nodes."""

    def __init__(self, block_count: int) -> None:
        self._run = run_blocks(block_count)
        self._runs = -(-block_count // self._run)
        self._all = bitfield.full(block_count)
        self._weights: dict[SourceId, list[int]] = {}
        self._masks: dict[SourceId, int] | None = None

    @property
    def nodes(self) -> list[SourceId]:
        """Those among whom the runs are divided."""
        return list(self._weights)

    def add(self, node: SourceId) -> None:
        """Give a node its share; one that has it keeps it."""
        if node not in self._weights:
            seed = seed_of(node)
            self._weights[node] = [weight(seed, run) for run in range(self._runs)]
            self._masks = None

    def discard(self, node: SourceId) -> None:
        """Divide a node's share among the others; one that has none is no error."""
        if self._weights.pop(node, None) is not None:
            self._masks = None

    def of(self, node: SourceId) -> int:
        """Return the set of blocks that are a node's share."""
        if self._masks is None:
            self._masks = self._divide()
        return self._masks.get(node, 0)

    def best_for(self, node: SourceId, among: Iterable[SourceId], blocks: int) -> int:
        """Return those of ``blocks`` that would be the node's if only ``among`` shared them."""
        rivals = [self._weights[one] for one in among if one != node and one in self._weights]
        mine, found = self._weights[node], 0
        for run in dict.fromkeys(block // self._run for block in bitfield.members(blocks)):
            if all(mine[run] > other[run] for other in rivals):
                found |= bitfield.span(run * self._run, self._run)
        return found & blocks

    def _divide(self) -> dict[SourceId, int]:
        # Equal weights are as good as impossible; the later name wins then, on every node alike.
        nodes = sorted(self._weights)
        rows = [self._weights[node] for node in nodes]
        masks = dict.fromkeys(nodes, 0)
        for run in range(self._runs if nodes else 0):
            _, owner = max((row[run], node) for row, node in zip(rows, nodes, strict=True))
            masks[owner] |= bitfield.span(run * self._run, self._run)
        return {node: mask & self._all for node, mask in masks.items()}
