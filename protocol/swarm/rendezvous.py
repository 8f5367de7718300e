"""Who fetches which run of blocks from a source that is not to be asked for anything twice.

Highest random weight ("rendezvous") hashing: every node gives each run of blocks a weight of its
own, and a run belongs to the node whose weight is the highest. Nodes that know of the same others
agree without a word said, and one that comes or goes moves only the runs that are its own
(Thaler and Ravishankar 1998).
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable
from functools import lru_cache

from blake3 import blake3

from dreamer.protocol.limits import (
    RENDEZVOUS_KEPT_DIVISIONS,
    RENDEZVOUS_KEPT_NODES,
    RENDEZVOUS_RUNS,
)
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


@lru_cache(maxsize=RENDEZVOUS_KEPT_NODES)
def weights(node: SourceId, runs: int) -> array[int]:
    """Return a node's weight for each of ``runs`` runs; kept, since every change needs them all."""
    seed = seed_of(node)
    return array("Q", [weight(seed, run) for run in range(runs)])


@lru_cache(maxsize=RENDEZVOUS_KEPT_DIVISIONS)
def division(nodes: tuple[SourceId, ...], block_count: int) -> dict[SourceId, int]:
    """Return the set of blocks that is each node's share; not to be written to.

    ``nodes`` are sorted. Kept: downloads of one process that know of the same nodes share it.
    """
    run = run_blocks(block_count)
    runs = -(-block_count // run)
    # Equal weights are as good as impossible; the later name wins then, on every node alike.
    names = nodes[::-1]
    won: list[list[int]] = [[] for _ in names]
    for number, column in enumerate(zip(*(weights(name, runs) for name in names), strict=True)):
        won[column.index(max(column))].append(number)
    everything = bitfield.full(block_count)
    return {
        name: sum(bitfield.span(number * run, run) for number in mine) & everything
        for name, mine in zip(names, won, strict=True)
    }


class Shares:
    """The runs of one model, divided among nodes that come and go.

    Divided anew when somebody asks: of fifty that are heard of at once, none costs anything alone.
    """

    def __init__(self, block_count: int) -> None:
        self._block_count = block_count
        self._run = run_blocks(block_count)
        self._runs = -(-block_count // self._run)
        self._nodes: dict[SourceId, None] = {}
        self._masks: dict[SourceId, int] | None = {}

    @property
    def nodes(self) -> list[SourceId]:
        """Those among whom the runs are divided."""
        return list(self._nodes)

    def __contains__(self, node: SourceId) -> bool:
        return node in self._nodes

    def add(self, node: SourceId) -> None:
        """Give a node its share; one that has it keeps it."""
        if node not in self._nodes:
            self._nodes[node] = None
            self._masks = None

    def discard(self, node: SourceId) -> None:
        """Divide a node's share among the others; one that has none is no error."""
        if node in self._nodes:
            del self._nodes[node]
            self._masks = None

    def of(self, node: SourceId) -> int:
        """Return the set of blocks that are a node's share."""
        # Asked for each block that anybody has: without a call of ``each``.
        masks = self._masks if self._masks is not None else self.each
        return masks.get(node, 0)

    @property
    def each(self) -> dict[SourceId, int]:
        """The share of each; not to be written to."""
        if self._masks is None:
            self._masks = division(tuple(sorted(self._nodes)), self._block_count)
        return self._masks

    def best_for(self, node: SourceId, among: Iterable[SourceId], blocks: int) -> int:
        """Return those of ``blocks`` that would be the node's if only ``among`` shared them."""
        others = [one for one in among if one != node and one in self._nodes]
        rivals = [weights(one, self._runs) for one in others]
        mine, found = weights(node, self._runs), 0
        for run in dict.fromkeys(block // self._run for block in bitfield.members(blocks)):
            if all(mine[run] > other[run] for other in rivals):
                found |= bitfield.span(run * self._run, self._run)
        return found & blocks
