"""That bytes come in though no block is whole yet: what keeps a slow peer from looking dead.

The daemon hears of it with every chunk; here each source that owes something is looked at now and
again, which is often enough for the planner's patience (``REQUEST_TIMEOUT_S``).
"""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import TYPE_CHECKING

from dreamer.protocol.limits import REQUEST_TIMEOUT_S
from dreamer.protocol.swarm.vocabulary import BytesArrived, SourceId
from dreamer.simulations.engine.clock import Clock, Timer

if TYPE_CHECKING:
    from dreamer.simulations.engine.links import End

LOOK_S = REQUEST_TIMEOUT_S / 3


class Liveness:
    """Watches the far ends of those that one pull has asked."""

    def __init__(
        self,
        clock: Clock,
        owing: Callable[[], Container[SourceId]],
        tell: Callable[[BytesArrived], None],
    ) -> None:
        """``owing`` returns who is still to be looked at; ``tell`` takes what came since."""
        self._clock = clock
        self._owing = owing
        self._tell = tell
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
        owing = self._owing()
        for source, (sender, before) in list(self._watched.items()):
            if source not in owing:
                self._watched.pop(source, None)
                continue
            delivered = sender.delivered_bytes
            if come := int(delivered - before):
                self._watched[source] = (sender, delivered)
                self._tell(BytesArrived(source, come))
        if self._watched and self._timer is None:
            self._timer = self._clock.after(LOOK_S, self._look)
