"""The time that a pull's planner goes by: it stands still while nobody could listen."""

from __future__ import annotations

import time
from collections.abc import Callable

from dreamer.protocol.limits import PULL_HALT_NOTICED_S


class ListeningClock:
    """A monotonic clock for who looks at it all the time; long gaps between looks don't count.

    A daemon that was halted for a minute finds that nothing has come for a minute, and would
    blame everybody it had asked. What has come meanwhile is yet to be read.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._looked_at = clock()
        self._halted_s = 0.0

    def __call__(self) -> float:
        """Return the time in seconds."""
        now = self._clock()
        gap_s, self._looked_at = now - self._looked_at, now
        if gap_s > PULL_HALT_NOTICED_S:
            self._halted_s += gap_s
        return now - self._halted_s
