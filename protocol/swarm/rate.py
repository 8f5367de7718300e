"""A lane's measured rate: an exponential average over time, not over samples."""

from __future__ import annotations

from dreamer.protocol.limits import RATE_HALF_LIFE_S


class RateMeter:
    """Bytes per second over about ``RATE_HALF_LIFE_S`` of the time that something was asked for."""

    __slots__ = ("_pending", "_since", "bytes_per_s")

    def __init__(self) -> None:
        self.bytes_per_s = 0.0
        """The current estimate; 0 until something has been measured."""
        self._since: float | None = None
        self._pending = 0

    def begin(self, now: float) -> None:
        """Start the clock: work was given to an idle lane, whose idle time must not count."""
        self._since = now
        self._pending = 0

    def add(self, size_bytes: int, now: float) -> None:
        """Count bytes that arrived; samples closer than 50 ms are taken together."""
        self._pending += size_bytes
        if self._since is None:
            self._since = now
        elapsed = now - self._since
        if elapsed < 0.05:
            return
        sample = self._pending / elapsed
        weight = 0.5 ** (elapsed / RATE_HALF_LIFE_S) if self.bytes_per_s else 0.0
        self.bytes_per_s = weight * self.bytes_per_s + (1 - weight) * sample
        self._since, self._pending = now, 0
