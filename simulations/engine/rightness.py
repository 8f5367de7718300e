"""Which blocks truly are at each machine: there from the start, or come with the right bytes.

The network knows what it carried; what planners believe of it is theirs, and may be compared.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dreamer.protocol.swarm.vocabulary import Lane
from dreamer.simulations.engine.observer import Observer

if TYPE_CHECKING:
    from dreamer.simulations.engine.node import Node
    from dreamer.simulations.engine.pull import Pull
    from dreamer.simulations.engine.world import World


class Rightness(Observer):
    """Keeps the set of right blocks for each machine and model."""

    def __init__(self) -> None:
        self._right: dict[tuple[int, str], int] = {}

    def of(self, node: Node, model: str) -> int:
        """Return the blocks of a model that are at a machine, and right."""
        return self._right.get((node.index, model), 0)

    def began(self, world: World) -> None:
        """Take what is at each machine at the start as right."""
        for node in world.nodes:
            for model, blocks in node.held.items():
                self._right[node.index, model] = blocks

    def joined(self, node: Node, now: float) -> None:
        """Keep what a machine that comes back still has: its disk may be lost, never better."""
        for model, blocks in node.held.items():
            self._right[node.index, model] = blocks & self.of(node, model)

    def arrived(
        self, pull: Pull, lane: Lane, block: int, size_bytes: int, *, right: bool, now: float
    ) -> None:
        """Note a block that is right."""
        if right:
            key = pull.node.index, pull.model.name
            self._right[key] = self._right.get(key, 0) | 1 << block

    def wrong(self, node: Node) -> int:
        """Return how many blocks a machine keeps that never came to it right."""
        return sum(
            (blocks & ~self.of(node, model)).bit_count() for model, blocks in node.held.items()
        )
