"""What a machine sends: each block once for each time it was asked for, to so many at a time.

Machines that mean harm are left out: what they do is for others to bear, not to prevent.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dreamer.protocol.limits import REQUESTS_QUEUED_PER_PEER, UPLOAD_SLOTS
from dreamer.simulations.invariants.books import Books, Request
from dreamer.simulations.invariants.invariant import Complain, Invariant

if TYPE_CHECKING:
    from dreamer.protocol.ids import NodeId
    from dreamer.simulations.engine.catalogue import Model
    from dreamer.simulations.engine.links import End
    from dreamer.simulations.engine.node import Node

AT_ONCE_S = 1e-6
"""What the time of a message may be off by, for it is added up in another order."""


class ServedOnce(Invariant):
    """A block is sent once for each request, and is not begun any more once it was called off.

    One that was begun by then may be sent to its end, as the lanes do.
    """

    name = "served once"

    def __init__(self, books: Books, complain: Complain) -> None:
        super().__init__(books, complain)
        self._sent_at: dict[tuple[int, int], float] = {}

    def served(self, end: End, request: int, block: int, now: float) -> None:
        """Look for the request that a block was sent for."""
        taker, line = end.far.node, (end.node.index, end.number)
        # Blocks go one after the other: this one can't have been begun before.
        begun_at, self._sent_at[line] = self._sent_at.get(line, 0.0), now
        if end.node.group.misdeed is not None or taker.group.misdeed is not None:
            return
        found = self.books.request(taker, request)
        if found is None or not found.blocks >> block & 1:
            self.broken(end.node, now, f"sends {taker.name} block {block} without being asked")
        elif found.sent >> block & 1:
            words = f"sends {taker.name} block {block} of request {request} twice"
            self.broken(end.node, now, words)
        else:
            found.sent |= 1 << block
            self._called_off(end, found, block, begun_at, now)

    def _called_off(
        self, end: End, request: Request, block: int, begun_at: float, now: float
    ) -> None:
        known_at = request.called_off_at + end.far.latency_s + AT_ONCE_S
        if request.called_off >> block & 1 and begun_at > known_at:
            late_s = begun_at - known_at
            words = f"begins block {block} {late_s:.3f} s after it heard that nobody wants it"
            self.broken(end.node, now, words)


class UploadSlots(Invariant):
    """So many peers are served at a time, and so many requests of each wait."""

    name = "upload slots"

    def __init__(self, books: Books, complain: Complain) -> None:
        super().__init__(books, complain)
        self._served: dict[int, dict[NodeId, End]] = {}

    def handed_out(
        self, end: End, model: Model, request: int, blocks: Sequence[int], now: float
    ) -> None:
        """Count the peers that something is being sent to."""
        node = end.node
        waiting = node.giving.open_requests(end.number)
        if waiting > REQUESTS_QUEUED_PER_PEER:
            words = f"keeps {waiting} requests of {end.far.node.name} waiting"
            self.broken(node, now, words)
        served = self._served.setdefault(node.index, {})
        served[end.peer] = end
        if len(served) > UPLOAD_SLOTS:
            # Only now is it worth a look who is through.
            self._served[node.index] = served = _still_served(node, served)
        if len(served) > UPLOAD_SLOTS:
            self.broken(node, now, f"serves {len(served)} peers at a time")


def _still_served(node: Node, served: dict[NodeId, End]) -> dict[NodeId, End]:
    return {
        peer: end
        for peer, end in served.items()
        if end.up and end.number in node.links and node.giving.open_requests(end.number)
    }
