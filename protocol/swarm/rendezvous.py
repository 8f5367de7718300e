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
_NOBODY = (-1, SourceId(""))


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
    """The runs of one model, divided among nodes.

    Kept as nodes come and go: dividing all anew among 64 of them takes 14 ms.
    """

    def __init__(self, block_count: int) -> None:
        self._run = run_blocks(block_count)
        self._runs = -(-block_count // self._run)
        self._all = bitfield.full(block_count)
        self._weights: dict[SourceId, list[int]] = {}
        # Equal weights are as good as impossible; the later name wins then, on every node alike.
        self._best: list[tuple[int, SourceId]] = [_NOBODY] * self._runs
        self._masks: dict[SourceId, int] = {}

    @property
    def nodes(self) -> list[SourceId]:
        """Those among whom the runs are divided."""
        return list(self._weights)

    def add(self, node: SourceId) -> None:
        """Give a node its share; one that has it keeps it."""
        if node in self._weights:
            return
        seed, won = seed_of(node), 0
        weights = self._weights[node] = [weight(seed, run) for run in range(self._runs)]
        for run, own in enumerate(weights):
            if (own, node) > self._best[run]:
                _, loser = self._best[run]
                self._best[run] = (own, node)
                won |= self._blocks_of(run)
                if loser in self._masks:
                    self._masks[loser] &= ~self._blocks_of(run)
        self._masks[node] = won

    def discard(self, node: SourceId) -> None:
        """Divide a node's share among the others; one that has none is no error."""
        if self._weights.pop(node, None) is None:
            return
        del self._masks[node]
        for run, (_, owner) in enumerate(self._best):
            if owner == node:
                rivals = ((row[run], name) for name, row in self._weights.items())
                _, heir = self._best[run] = max(rivals, default=_NOBODY)
                if heir in self._masks:
                    self._masks[heir] |= self._blocks_of(run)

    def of(self, node: SourceId) -> int:
        """Return the set of blocks that are a node's share."""
        return self._masks.get(node, 0)

    def best_for(self, node: SourceId, among: Iterable[SourceId], blocks: int) -> int:
        """Return those of ``blocks`` that would be the node's if only ``among`` shared them."""
        rivals = [self._weights[one] for one in among if one != node and one in self._weights]
        mine, found = self._weights[node], 0
        for run in dict.fromkeys(block // self._run for block in bitfield.members(blocks)):
            if all(mine[run] > other[run] for other in rivals):
                found |= bitfield.span(run * self._run, self._run)
        return found & blocks

    def _blocks_of(self, run: int) -> int:
        return bitfield.span(run * self._run, self._run) & self._all
