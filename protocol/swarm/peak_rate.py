"""What a line has shown that it can carry: the most that passed within some seconds."""

from __future__ import annotations

from collections import deque

from dreamer.protocol.limits import PEAK_RATE_WINDOW_S


class PeakRate:
    """Fed with a running total now and then; a burst shorter than the window counts for less.

    A bound from below: nobody may ever have wanted all that the line would carry.
    """

    def __init__(self) -> None:
        self.bytes_s = 0.0
        """The highest rate so far."""
        self._samples: deque[tuple[float, int]] = deque()

    def note(self, total_bytes: int, now: float) -> bool:
        """Take the total at this moment; return whether it was never so fast before."""
        samples, before = self._samples, self.bytes_s
        samples.append((now, total_bytes))
        while now - samples[0][0] >= PEAK_RATE_WINDOW_S:
            since, then = samples[0]
            self.bytes_s = max(self.bytes_s, (total_bytes - then) / (now - since))
            if samples[1][0] > now - PEAK_RATE_WINDOW_S:
                break
            # The next one reaches back far enough, too, and is nearer to the moment.
            samples.popleft()
        return self.bytes_s > before
