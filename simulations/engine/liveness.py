"""That bytes come in though no block is whole yet: what keeps a slow peer from looking dead.

The daemon hears of it with every chunk; here each source that owes something is looked at now and
again, which is often enough for the planner's patience (``REQUEST_TIMEOUT_S``).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from dreamer.protocol.limits import REQUEST_TIMEOUT_S
from dreamer.protocol.swarm.vocabulary import SourceId
from dreamer.simulations.engine.clock import Clock, Timer

if TYPE_CHECKING:
    from dreamer.simulations.engine.links import End

LOOK_S = REQUEST_TIMEOUT_S / 3


class Liveness:
    """Watches the far ends of those that one pull has asked."""

    def __init__(self, clock: Clock, alive: Callable[[SourceId, int], bool]) -> None:
        """``alive`` takes bytes that came since the last look; False: look no more."""
        self._clock = clock
        self._alive = alive
        self._watched: dict[SourceId, tuple[End, float]] = {}
        self._timer: Timer | None = None

    def watch(self, source: SourceId, sender: End) -> None:
        """Look at a source until it owes nothing."""
        if source not in self._watched:
            self._watched[source] = (sender, sender.delivered_bytes)
        if self._timer is None:
            self._timer = self._clock.after(LOOK_S, self._look)

    def close(self) -> None:
        """Look at nobody any more."""
        self._watched.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        for source, (sender, before) in list(self._watched.items()):
            delivered = sender.delivered_bytes
            if self._alive(source, int(delivered - before)):
                self._watched[source] = (sender, delivered)
            else:
                self._watched.pop(source, None)
        if self._watched and self._timer is None:
            self._timer = self._clock.after(LOOK_S, self._look)
