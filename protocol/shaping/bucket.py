"""A token bucket of bytes that may be overdrawn: what is too much now is waited for later.

Blocks go out whole, so the rate holds over some blocks and not within one.
"""

from __future__ import annotations

from dreamer.protocol.limits import RATE_BURST_BYTES, RATE_BURST_S


class ByteBucket:
    """``bytes_per_s`` in the long run; None is no limit. Times are steady seconds."""

    def __init__(self, bytes_per_s: float | None = None) -> None:
        self.bytes_per_s = bytes_per_s
        self._level = self._burst
        self._at: float | None = None
        self._promised = 0.0

    @property
    def _burst(self) -> float:
        # Enough that a fast lane is not woken for every block.
        return max(RATE_BURST_BYTES, (self.bytes_per_s or 0.0) * RATE_BURST_S)

    def set_rate(self, bytes_per_s: float | None, now: float) -> None:
        """Go on at another rate; what was overdrawn is still owed."""
        self.level(now)
        self.bytes_per_s = bytes_per_s

    def level(self, now: float) -> float:
        """Return the bytes that may go now; 0 or less: none; infinity without a limit."""
        if self.bytes_per_s is None:
            self._level, self._at = self._burst, now
            # Whoever sets a limit begins with one full bucket: what was promised counts as it goes.
            self._promised = 0.0
            return float("inf")
        elapsed = now - self._at if self._at is not None else 0.0
        self._level = min(self._burst, self._level + max(elapsed, 0.0) * self.bytes_per_s)
        # Never set back: the same seconds would be granted twice.
        self._at = max(now, self._at or now)
        # What promised bytes didn't use in time is others' by now: together they have one burst.
        self._promised = min(self._promised, max(0.0, self._burst - self._level))
        return self._level

    def take(self, size_bytes: float, now: float) -> None:
        """Count bytes that go, or, less than 0, that did not go after all."""
        self.level(now)
        self._level = min(self._burst, self._level - size_bytes)

    def ready_at(self, now: float) -> float:
        """Return when something may go again: ``now``, if it may already."""
        level = self.level(now)
        if level > 0 or self.bytes_per_s is None:
            return now
        # A little after it is level again, or rounding would have it asked over and over.
        return now + (1.0 - level) / self.bytes_per_s

    # What goes before all else: counted when it is asked for, so that the rest waits until the rate
    # has made up for it, and sent as fast as the rate alone would let it go.

    def promise(self, size_bytes: float, now: float) -> None:
        """Count bytes that are to go before any others, or, less than 0, that won't after all."""
        self.level(now)
        # No more is given back than is still set aside.
        size_bytes = max(size_bytes, -self._promised)
        self.take(size_bytes, now)
        self._promised = max(0.0, self._promised + size_bytes)

    def keep(self, size_bytes: float) -> None:
        """Note that promised bytes go now."""
        unpromised = max(0.0, size_bytes - self._promised)
        self._promised = max(0.0, self._promised - size_bytes)
        # They came so late that others had their part: now it counts.
        self._level -= unpromised

    def promised_level(self, now: float) -> float:
        """Return how many of the promised bytes may go now; 0 or less: none."""
        return self.level(now) + self._promised

    def promised_ready_at(self, now: float) -> float:
        """Return when some of them may go: ``now``, if they may already."""
        level = self.promised_level(now)
        if level > 0 or self.bytes_per_s is None:
            return now
        return now + (1.0 - level) / self.bytes_per_s
