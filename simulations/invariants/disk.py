"""No machine keeps more than its disk takes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dreamer.protocol.swarm.vocabulary import Lane
from dreamer.simulations.engine.catalogue import GB
from dreamer.simulations.invariants.books import Books
from dreamer.simulations.invariants.invariant import Complain, Invariant

if TYPE_CHECKING:
    from dreamer.simulations.engine.node import Node
    from dreamer.simulations.engine.pull import Pull
    from dreamer.simulations.engine.world import World


class Disk(Invariant):
    """Room is made before a pull begins, so it is looked at then: nothing is written besides."""

    name = "disk"

    def __init__(self, books: Books, complain: Complain) -> None:
        super().__init__(books, complain)
        self._full: dict[int, bool] = {}

    def began(self, world: World) -> None:
        """Leave out machines that a scenario has begin with more than they have room for."""
        for node in world.nodes:
            self._full[node.index] = _held_bytes(node) > node.group.disk_gb * GB

    def arrived(
        self, pull: Pull, lane: Lane, block: int, size_bytes: int, *, right: bool, now: float
    ) -> None:
        """Look at the disk of whoever has a limit."""
        node = pull.node
        limit = node.group.disk_gb * GB
        if not limit or self._full[node.index]:
            return
        # What is not here yet has its room taken: the file lies there at full length.
        taken = sum(node.world.models[name].size_bytes for name in node.held)
        if taken > limit:
            words = f"keeps {taken / GB:.2f} GB on a disk of {node.group.disk_gb:g} GB"
            self.broken(node, now, words)


def _held_bytes(node: Node) -> int:
    return sum(node.world.models[name].size_bytes for name in node.held)
