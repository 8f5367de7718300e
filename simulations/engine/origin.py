"""The room's S3 bucket: ranges over HTTP, each over a connection of its own, for a price.

Beyond its requests per second it answers 503; the daemon's origin lane then waits and tries again a
few times (``daemon/origin/retry.py``), so the planner hears only of requests that failed for good.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from dreamer.protocol.limits import (
    MIB,
    ORIGIN_ATTEMPTS,
    ORIGIN_BODY_TIMEOUT_S,
    ORIGIN_RETRY_BASE_S,
    REQUEST_ORIGIN_MAX_BLOCKS,
)
from dreamer.protocol.swarm import bitfield
from dreamer.protocol.swarm.vocabulary import BytesArrived, Cancel, Fetch, RequestRefused, SourceId
from dreamer.simulations.engine.flows import Flow
from dreamer.simulations.engine.liveness import LOOK_S

if TYPE_CHECKING:
    from dreamer.simulations.engine.catalogue import Model
    from dreamer.simulations.engine.pull import Pull
    from dreamer.simulations.engine.world import World
    from dreamer.simulations.scenario.model import OriginSpec

ORIGIN = SourceId("origin")
_BYTES_PER_MBIT = 125_000.0
GET_MAX_BYTES = REQUEST_ORIGIN_MAX_BLOCKS * MIB
"""What the daemon asks for with one GET at most: coarse blocks stand for several."""


@dataclass
class Get:
    """One request under way: ``left`` are the blocks still to come, in order."""

    pull: Pull
    request: int
    left: list[int]
    flow: Flow | None = None
    attempts: int = 0
    told_bytes: int = 0
    """What the planner has heard of so far, of blocks that may not be whole yet."""


class Origin:
    """The bucket's own side: what it holds, how fast it is, what it was asked for."""

    def __init__(self, world: World, spec: OriginSpec) -> None:
        self.spec = spec
        self.pipe = world.flows.pipe(spec.up_mbit * _BYTES_PER_MBIT)
        self.cap_bytes_s = spec.per_request_mbit * _BYTES_PER_MBIT
        self.up = True
        self.bytes = 0
        self.requests = 0
        self.refused = 0
        self._clock = world.clock
        self._second = 0
        self._in_second = 0

    def holds(self, model: Model) -> bool:
        """Return whether a model was pushed to it."""
        return model.name in self.spec.holds

    def admits(self, requests: int) -> bool:
        """Return whether it serves so many more requests now."""
        if not self.spec.requests_s:
            return True
        second = int(self._clock.now)
        if second != self._second:
            self._second, self._in_second = second, 0
        if self._in_second + requests > max(self.spec.requests_s, requests):
            self.refused += requests
            return False
        self._in_second += requests
        return True


class OriginRequests:
    """The GETs of one machine."""

    def __init__(self, world: World, pipes: tuple[int, ...], latency_s: float) -> None:
        self._world = world
        self._pipes = pipes
        self._latency_s = latency_s
        self._open: dict[int, Get] = {}
        self._looking = False

    def begin(self, pull: Pull, command: Fetch) -> None:
        """Send a GET for a run of blocks."""
        blocks = list(range(command.first, command.first + command.count))
        get = Get(pull, command.request, blocks)
        self._open[command.request] = get
        world = self._world
        span = bitfield.span(command.first, command.count)
        world.observers.asked_origin(pull, command.request, span, world.clock.now)
        world.clock.after(2 * self._latency_s, partial(self._answered, get))
        self._look_later()

    def _look_later(self) -> None:
        if not self._looking:
            self._looking = True
            self._world.clock.after(LOOK_S, self._look)

    def _look(self) -> None:
        """Tell planners that bytes come in, as ``liveness.py`` does for members."""
        self._looking = False
        for get in list(self._open.values()):
            come = int(get.flow.delivered_bytes) if get.flow is not None else 0
            if come > get.told_bytes:
                get.pull.feed(BytesArrived(ORIGIN, come - get.told_bytes))
                get.told_bytes = come
        if self._open:
            self._look_later()

    def _answered(self, get: Get) -> None:
        origin = self._world.origin
        assert origin is not None, "nobody asks an origin that is not there"
        if get.request not in self._open:
            return
        size = sum(get.pull.model.layout.block_size(block) for block in get.left)
        gets = -(-size // GET_MAX_BYTES)
        if not origin.up or self._cut_off(get) or not origin.admits(gets):
            self._refused(get)
            return
        origin.requests += gets
        get.told_bytes = 0
        get.flow = self._world.flows.open(self._pipes, origin.cap_bytes_s)
        for block in get.left:
            block_bytes = get.pull.model.layout.block_size(block)
            get.flow.send(block_bytes, partial(self._sent, get, block, block_bytes))

    def _cut_off(self, get: Get) -> bool:
        return self._world.happenings.outside_reach(get.pull.node)

    def lose_way(self) -> None:
        """Have nothing more come of what is under way; that is noticed by the silence."""
        for get in self._open.values():
            if get.flow is not None:
                get.flow.close()
                get.flow = None
                self._world.clock.after(ORIGIN_BODY_TIMEOUT_S, partial(self._fell_silent, get))

    def _fell_silent(self, get: Get) -> None:
        if get.request in self._open:
            self._refused(get)

    def _refused(self, get: Get) -> None:
        get.attempts += 1
        if get.attempts < ORIGIN_ATTEMPTS:
            pause_s = ORIGIN_RETRY_BASE_S * 2.0**get.attempts * get.pull.node.rng.uniform(0.5, 1.0)
            self._world.clock.after(pause_s, partial(self._answered, get))
            return
        self._close(get)
        get.pull.feed(RequestRefused(ORIGIN, get.request, busy=True))

    def _sent(self, get: Get, block: int, size_bytes: int) -> None:
        get.left.remove(block)
        origin = self._world.origin
        assert origin is not None, "it has just sent something"
        origin.bytes += size_bytes
        self._world.clock.after(self._latency_s, partial(self._came, get, block))
        if not get.left:
            self._close(get)

    def _came(self, get: Get, block: int) -> None:
        get.pull.node.origin_block_came(get.pull, get.request, block)

    def cancel(self, pull: Pull, command: Cancel) -> None:
        """Leave out a block, or with None end the GET."""
        get = self._open.get(command.request)
        if get is None:
            return
        if command.block is None or get.left == [command.block]:
            self._close(get)

    def stop(self, pull: Pull) -> None:
        """End every GET of a pull."""
        for get in [get for get in self._open.values() if get.pull is pull]:
            self._close(get)

    def _close(self, get: Get) -> None:
        self._open.pop(get.request, None)
        if get.flow is not None:
            get.flow.close()
            get.flow = None

    def __iter__(self) -> Iterator[Get]:
        """Go through the GETs under way."""
        return iter(self._open.values())
