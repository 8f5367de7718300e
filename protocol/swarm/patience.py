"""How long a pull that can't go on waits, and how often it tries."""

from __future__ import annotations

from dreamer.protocol.limits import PULL_PATIENCE_S, PULL_PAUSE_MAX_S, PULL_PAUSE_MIN_S

_GROWTH = 1.5


class Patience:
    """Runs out ``PULL_PATIENCE_S`` after the last progress; times are seconds of any clock."""

    def __init__(self, now: float) -> None:
        self._since = now
        self._done = -1
        self._pause_s = PULL_PAUSE_MIN_S

    def lasts(self, done_bytes: int, now: float) -> bool:
        """Return whether to try once more, with ``done_bytes`` of the model here."""
        # Against the most there ever was: a disk that damages the same block again and again
        # must not look like progress.
        if done_bytes > self._done:
            self._done, self._since, self._pause_s = done_bytes, now, PULL_PAUSE_MIN_S
        return now < self._since + PULL_PATIENCE_S

    def next_pause(self) -> float:
        """Return how long to wait before the next try: longer each time without progress."""
        pause_s = self._pause_s
        self._pause_s = min(PULL_PAUSE_MAX_S, pause_s * _GROWTH)
        return pause_s
