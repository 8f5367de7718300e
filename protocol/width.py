"""How many transfers from one place to run side by side: as many as make it faster.

Nobody can say beforehand: one connection may fill the wire, or get a tenth of what the other end
gives to each. So now and then one more or one less is tried, and kept if the rate says so.
"""

from __future__ import annotations

from dreamer.protocol.limits import WIDTH_GAIN, WIDTH_LOSS, WIDTH_REST_WINDOWS, WIDTH_WINDOW_S


class Width:
    """Climbs towards the best width between 1 and ``most``; ``now`` is the one to use."""

    def __init__(self, start: int, most: int) -> None:
        self.now = start
        self._most = most
        self._step = 1
        self._trying = False
        self._rest = 0
        self._rate = 0.0
        self._since: float | None = None
        self._bytes = 0

    def idle(self) -> None:
        """Note that there was nothing to do: the time up to the next bytes must not count."""
        self._since = None

    def moved(self, size_bytes: int, now: float) -> None:
        """Count bytes that came; ``now`` in seconds of a monotonic clock."""
        if self._since is None:
            self._since, self._bytes = now, 0
            return
        self._bytes += size_bytes
        elapsed_s = now - self._since
        if elapsed_s >= WIDTH_WINDOW_S:
            self._judge(self._bytes / elapsed_s)
            self._since, self._bytes = now, 0

    def _judge(self, rate: float) -> None:
        before, self._rate = self._rate, rate
        if self._trying:
            self._trying = False
            # More must bring something; less is welcome if it costs nothing.
            if rate >= before * (WIDTH_GAIN if self._step > 0 else WIDTH_LOSS):
                self._try()
                return
            self.now -= self._step
            self._step = -self._step
            self._rest = WIDTH_REST_WINDOWS
        elif self._rest:
            self._rest -= 1
        else:
            self._try()

    def _try(self) -> None:
        if not 1 <= self.now + self._step <= self._most:
            self._step, self._rest = -self._step, WIDTH_REST_WINDOWS
            return
        self.now += self._step
        self._trying = True
