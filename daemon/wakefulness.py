"""Whether this machine has slept since it was last asked.

The loop's clock stands still while a machine is suspended (CLOCK_MONOTONIC of Linux), so a
laptop that was shut for an hour would go on as if nothing had happened, over connections that
everybody else has long given up.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from dreamer.protocol.limits import SLEEP_NOTICED_S


def asleep_s() -> float:
    """Return for how long this machine has been suspended since it started; 0 if it can't tell."""
    boottime = getattr(time, "CLOCK_BOOTTIME", None)
    return time.clock_gettime(boottime) - time.monotonic() if boottime is not None else 0.0


class Wakefulness:
    """Notices sleep, by the difference of two clocks."""

    def __init__(self, asleep: Callable[[], float] = asleep_s) -> None:
        self._asleep = asleep
        self._known = asleep()

    def slept(self) -> bool:
        """Return whether the machine has slept since the last call, or since this was made."""
        before, self._known = self._known, self._asleep()
        return self._known - before > SLEEP_NOTICED_S
