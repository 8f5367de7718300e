"""Which members to be linked with though nothing is to be exchanged: a net that holds.

When every tracker is gone, members find one another over the links that there are (``gossip``). So
each keeps a few up, to members chosen by chance: a net of that kind hangs together although nobody
plans it, and nobody who makes up node ids can choose himself a place in it. New links are made one
at a time, after a pause of chance length, so that a thousand nodes that start, or lose the same
neighbour, don't all call at once.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Sequence
from typing import Protocol

from dreamer.protocol.ids import NodeId
from dreamer.protocol.limits import (
    MESH_INTERVAL_S,
    MESH_PAUSE_MAX_S,
    MESH_REMEMBERED_NODES,
    MESH_RETRY_MAX_S,
    MESH_RETRY_S,
    MESH_VAIN_CALLS,
)


class Chance(Protocol):
    """The part of ``random.Random`` that choices are left to."""

    def uniform(self, a: float, b: float) -> float:
        """Return a number between two others."""
        ...

    def randrange(self, stop: int, /) -> int:
        """Return a whole number from 0 to below ``stop``."""
        ...


class Mesh:
    """Keeps ``wanted`` links up in one room. All times are steady seconds."""

    def __init__(self, wanted: int, rng: Chance) -> None:
        self._wanted = wanted
        self._rng = rng
        self._due: float | None = None
        self._tried: OrderedDict[NodeId, tuple[int, float]] = OrderedDict()
        self._vain_calls = 0

    @property
    def called(self) -> Collection[NodeId]:
        """Whom it called, and who was not linked since."""
        return self._tried.keys()

    def tick(
        self,
        linked: Collection[NodeId],
        coming_up: int,
        present: Sequence[NodeId],
        now: float,
    ) -> NodeId | None:
        """Return whom to call now, None for nobody. ``present`` are the others in the room.

        ``coming_up`` counts the links to those in ``called`` alone: whoever only pretends to link
        with us must not keep us from others.
        """
        for node in linked:
            if self._tried.pop(node, None) is not None:
                self._vain_calls, self._due = 0, None
        if len(linked) + coming_up >= self._wanted or not present:
            self._due = None
            return None
        if self._due is None:
            self._due = now + self._pause_s()
        if now < self._due:
            return None
        self._vain_calls += 1
        self._due = now + self._pause_s()
        return self._choose(linked, present, now)

    def _pause_s(self) -> float:
        # A node whose network lets nobody through would else go on calling a large room for ever.
        doublings = min(16, max(0, self._vain_calls - MESH_VAIN_CALLS))
        pause_s = min(MESH_PAUSE_MAX_S, MESH_INTERVAL_S * 2.0**doublings)
        return pause_s * self._rng.uniform(0.0, 2.0)

    def _choose(
        self, linked: Collection[NodeId], present: Sequence[NodeId], now: float
    ) -> NodeId | None:
        # From a place of chance onwards: whoever follows one that is out of the question is a
        # little more likely, which harms nothing and spares looking at a thousand each time.
        first = self._rng.randrange(len(present))
        for step in range(len(present)):
            node = present[(first + step) % len(present)]
            _, not_before = self._tried.get(node, (0, now))
            if node not in linked and now >= not_before:
                self._note(node, now)
                return node
        return None

    def _note(self, node: NodeId, now: float) -> None:
        times, _ = self._tried.pop(node, (0, 0.0))
        pause_s = min(MESH_RETRY_MAX_S, MESH_RETRY_S * 2.0 ** min(times, 16))
        self._tried[node] = (times + 1, now + pause_s * self._rng.uniform(0.5, 1.0))
        if len(self._tried) > MESH_REMEMBERED_NODES:
            self._tried.popitem(last=False)
