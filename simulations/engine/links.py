"""A link of two machines: what each end says arrives after the line's delay, in order; blocks
share the bandwidth with everybody else's. Which of them are sent, and when, is not decided here.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import sqrt
from typing import TYPE_CHECKING

from dreamer.protocol.ids import NodeId
from dreamer.protocol.limits import BLOCK_BYTES
from dreamer.protocol.link.messages import Message
from dreamer.protocol.swarm.vocabulary import Lane, SourceId
from dreamer.simulations.engine.flows import Flow, Parcel
from dreamer.simulations.engine.naming import source_named

if TYPE_CHECKING:
    from dreamer.simulations.engine.catalogue import Model
    from dreamer.simulations.engine.node import Node
    from dreamer.simulations.engine.world import World

SEGMENT_BYTES = 1400
NO_LOSS = float("inf")


def loss_cap(loss: float, rtt_s: float) -> float:
    """Return the bytes per second of one connection with random loss (Mathis et al. 1997)."""
    if not loss:
        return NO_LOSS
    return SEGMENT_BYTES * sqrt(1.5) / (max(rtt_s, 0.001) * sqrt(loss))


class End:
    """One end of a link: ``node`` here, ``far`` the other one. What ``Giving`` sees of a link."""

    far: End
    peer: NodeId
    """Who is at the other end; ``source`` is how planners name it."""
    source: SourceId
    lan = False

    def __init__(self, world: World, number: int, node: Node, lane: Lane, latency_s: float) -> None:
        self.number = number
        self.node = node
        self.lane = lane
        self.latency_s = latency_s
        self.up = True
        self.bulk_spent = False
        self.pipes: tuple[int, ...] = ()
        self.cap_bytes_s = NO_LOSS
        self.relayed_bytes = 0
        self.allowed_bytes = 0
        self._world = world
        self._flow: Flow | None = None
        self._parcels: dict[tuple[int, int], Parcel] = {}
        self._left_of_slice: dict[int, int] = {}

    def meet(self, far: End, pipes: tuple[int, ...], cap_bytes_s: float) -> None:
        """Take the other end; what is sent to it goes through ``pipes``, so fast at most."""
        self.far, self.pipes, self.cap_bytes_s = far, pipes, cap_bytes_s
        # Looked up for each message: properties that go by way of the node would cost some percent.
        self.peer, self.source = far.node.id, source_named(far.node.id)

    @property
    def direct_up(self) -> bool:
        """Whether a direct connection stands."""
        return self.lane is Lane.DIRECT

    def lane_of(self, *, direct: bool) -> Lane:
        """Return the lane of blocks that are asked for this way."""
        return self.lane

    @property
    def delivered_bytes(self) -> float:
        """What this end has sent of blocks by now, unfinished ones included."""
        return self._flow.delivered_bytes if self._flow is not None else 0.0

    def say(self, message: Message) -> None:
        """Send a message over ``control``."""
        self._world.clock.after(self.latency_s, partial(self.far._hear, message))

    def _hear(self, message: Message) -> None:
        if self.up:
            self.node.heard(self, message)

    # Blocks

    def send(self, model: Model, request: int, blocks: Sequence[int]) -> None:
        """Put a slice of a request on the line."""
        if self._flow is None:
            self._flow = self._world.flows.open(self.pipes, self.cap_bytes_s)
        self._world.observers.handed_out(self, model, request, blocks, self._world.clock.now)
        self._left_of_slice[request] = self._left_of_slice.get(request, 0) + len(blocks)
        for block in blocks:
            size = model.layout.block_size(block)
            done = partial(self._sent, model, request, block, size)
            self._parcels[request, block] = self._flow.send(size, done)

    def stop(self, request: int, block: int | None) -> None:
        """Send a block no more, or with None the rest of what is under way of a request.

        Daemons' lanes send a block that they have begun to its end, whatever becomes of it; of a
        coarse one, which stands for many of theirs, the rest is left out.
        """
        coarse = self._world.block_bytes > BLOCK_BYTES
        for key in [key for key in self._parcels if key[0] == request]:
            if (block is None or key[1] == block) and (coarse or self._parcels[key].waits):
                assert self._flow is not None
                self._flow.drop(self._parcels.pop(key))
                self._slice_shrinks(request)

    def _sent(self, model: Model, request: int, block: int, size_bytes: int) -> None:
        del self._parcels[request, block]
        world = self._world
        world.trace.add(world.clock.now, self.node.index, world.SENT, request, block)
        world.observers.served(self, request, block, world.clock.now)
        if self.lane is Lane.RELAY:
            world.observers.relayed(self, size_bytes, world.clock.now)
        world.clock.after(
            self.latency_s, partial(self.far._block, model, request, block, size_bytes)
        )
        self._slice_shrinks(request)

    def _block(self, model: Model, request: int, block: int, size_bytes: int) -> None:
        if not self.up:
            return
        self.node.block_came(self, model, request, block, size_bytes)

    def _slice_shrinks(self, request: int) -> None:
        left = self._left_of_slice[request] = self._left_of_slice[request] - 1
        if not left:
            del self._left_of_slice[request]
            self.node.slice_sent(self, request)

    def cut(self) -> None:
        """Stop: nothing sent from here arrives any more."""
        self.up = False
        if self._flow is not None:
            self._flow.close()
            self._flow = None
        self._parcels.clear()
        self._left_of_slice.clear()
