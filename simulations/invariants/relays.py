"""What passes TURN relays stays within the budget of each machine at either end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dreamer.protocol.limits import MIB, UPLOAD_SLICE_BLOCKS, UPLOAD_SLICES_UNDER_WAY
from dreamer.protocol.swarm.grain import blocks_for
from dreamer.protocol.swarm.vocabulary import Lane
from dreamer.simulations.invariants.books import Books
from dreamer.simulations.invariants.invariant import Complain, Invariant

if TYPE_CHECKING:
    from dreamer.simulations.engine.links import End
    from dreamer.simulations.engine.node import Node

MONTH_S = 28 * 24 * 3600.0
"""No month is shorter: runs that are have one budget, and longer ones one for each of these."""


class RelayBudgets(Invariant):
    """Counts every byte on its own.

    Beyond a budget may go what other links had under way when they were told of it, as
    ``protocol/relay_budget.py`` says: here that is what each had handed out, in whole blocks.
    """

    name = "relay budget"

    def __init__(self, books: Books, complain: Complain) -> None:
        super().__init__(books, complain)
        self._passed: dict[int, int] = {}

    def relayed(self, end: End, size_bytes: int, now: float) -> None:
        """Count bytes for both ends."""
        for node in (end.node, end.far.node):
            passed = self._passed[node.index] = self._passed.get(node.index, 0) + size_bytes
            budget = node.group.relay_budget_mib * MIB
            if not budget or node.group.misdeed is not None:
                continue
            allowed = budget * (1 + now // MONTH_S) + _under_way(node)
            if passed > allowed:
                words = f"has {passed / MIB:.0f} MiB relayed, of {budget / MIB:.0f} MiB"
                self.broken(node, now, words)


def _under_way(node: Node) -> int:
    """Return what links besides the one that used up the budget may have had on their way."""
    block_bytes = node.world.block_bytes
    slice_bytes = blocks_for(UPLOAD_SLICE_BLOCKS, block_bytes) * block_bytes
    others = sum(end.lane is Lane.RELAY for end in node.links.values()) - 1
    return max(others, 0) * UPLOAD_SLICES_UNDER_WAY * slice_bytes
