"""No pipe carries more than it can: its flows together have no more than its capacity.

Rates change only where shares are divided anew, or where a flow begins or ends in between, which
takes no more than is left over (``engine/flows.py``). So it is looked at once for each division.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from dreamer.simulations.invariants.books import Books
from dreamer.simulations.invariants.invariant import Complain, Invariant

if TYPE_CHECKING:
    from dreamer.simulations.engine.world import World


class Pipes(Invariant):
    """Adds up the rates of all flows."""

    name = "pipes"

    def __init__(self, books: Books, complain: Complain) -> None:
        super().__init__(books, complain)
        self._looked_at = 0

    def happened(self, world: World) -> None:
        """Look once shares were divided again."""
        if world.flows.divisions == self._looked_at:
            return
        self._looked_at = world.flows.divisions
        for pipe, carried, capacity in world.flows.overfull():
            words = f"pipe {pipe} carries {carried:.0f} B/s, and can carry {capacity:.0f}"
            self.broken(None, world.clock.now, words)
