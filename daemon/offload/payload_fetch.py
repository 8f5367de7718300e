"""One payload on its way in: what of it is left, and under which requests it is asked for.

A link's lane may change on the way: most often from WebRTC to a direct connection that took its
time. What the old lane is in the middle of still comes over it, so only what is behind that is
asked for over the new one; a lane that is gone brings nothing more, and all that is left is asked
for anew. A request's verdicts count however late they come.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from dreamer.daemon.links.link import Link, Taker
from dreamer.daemon.offload.payload import Payload
from dreamer.daemon.transport.vocabulary import VerifiedSpan
from dreamer.protocol.link.messages import CancelWant
from dreamer.protocol.link.offload_messages import WantPayload
from dreamer.protocol.offload_limits import OFFLOAD_PAYLOAD_BLOCKS_UNDER_WAY


@dataclass(eq=False)
class Fetch:
    """A payload that is coming in. ``spans`` has each block's place, length and digest."""

    link: Link
    payload: Payload
    spans: list[VerifiedSpan]
    left: set[int] = field(init=False)
    moved: asyncio.Event = field(default_factory=asyncio.Event)
    failed: Exception | None = None
    _carrier: Taker | None = None
    _asked: dict[int, Taker] = field(default_factory=dict)
    # From this block on, the last request is to bring it; what is before comes by earlier ones.
    _first: int = 0

    def __post_init__(self) -> None:
        self.left = set(range(len(self.spans)))

    @property
    def requests(self) -> list[int]:
        """The numbers under which it was asked for."""
        return list(self._asked)

    @property
    def carried_on(self) -> bool:
        """Whether the lane that it was asked for over last still brings something."""
        bulk = self.link.bulk
        if self._carrier is bulk:
            return not self.link.bulk_spent
        return self._carrier is not None and self._carrier is self.link.direct

    @property
    def late(self) -> bool:
        """Whether only what the lane before was in the middle of is left."""
        return bool(self.left) and max(self.left) < self._first

    def fail(self, error: Exception) -> None:
        """End it with an error, unless it has one."""
        self.failed = self.failed or error
        self.moved.set()

    def ask(self, request: int) -> None:
        """Ask over the lane that the link has now for what no other lane is about to bring.

        Nothing is asked where that is the lane that was asked before, or where there is none.
        """
        carrier = self.link.carrier
        if carrier is None or carrier is self._carrier or not self.left:
            return
        on_its_way = OFFLOAD_PAYLOAD_BLOCKS_UNDER_WAY if self.carried_on else 0
        self._carrier, self._first = carrier, min(self.left) + on_its_way
        self._ask(request, carrier)

    def ask_again(self, request: int) -> None:
        """Ask once more for what the lane before was too slow to bring."""
        if self._carrier is not None and self.left:
            self._first = min(self.left)
            self._ask(request, self._carrier)

    def _ask(self, request: int, carrier: Taker) -> None:
        spans = self.spans[self._first :]
        here = [block for block, *_ in spans if block not in self.left]
        if len(here) == len(spans):
            return
        self._asked[request] = carrier
        carrier.expect(request, spans)
        direct = carrier is self.link.direct
        self.link.send(WantPayload(request, self.payload.number, self._first, direct))
        # That asks for all that follows. What is here of it is left out, and may come all the same.
        for block in here:
            carrier.stop_expecting(request, block)
            self.link.send(CancelWant(request, block))

    def stop(self) -> None:
        """Expect nothing more of it."""
        for request, carrier in self._asked.items():
            carrier.stop_expecting(request, -1)
        self._asked.clear()

    def abandon(self) -> None:
        """Forget the lanes: the link is gone, and what they expected with it."""
        self._asked.clear()
