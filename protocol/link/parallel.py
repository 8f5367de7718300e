"""How many direct connections one peer is to send over: another only if it makes it faster.

One connection has one core and one congestion window. Over a long or lossy path, or where ciphers
are slower than the wire, several bring more; elsewhere they only cost. So it is tried: a busy lane
gets one more for a while, and keeps it if the measured rate has grown by ``DIRECT_GAIN_MIN``.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from dreamer.protocol.limits import (
    DIRECT_CONNECTIONS_MAX,
    DIRECT_GAIN_MIN,
    DIRECT_TRIAL_REPEAT_S,
    DIRECT_TRIAL_S,
)


@dataclass
class Parallel:
    """The trials of one lane. ``wanted`` is how many connections it is to have."""

    wanted: int = 1
    _since: float | None = None
    _bytes_then: int = 0
    _rate_before: float | None = None
    _rest_until: float = field(default=0.0)

    def tick(self, now: float, connections: int, bytes_total: int, busy: bool) -> int:
        """Take how it stands, about once a second; return how many connections are wanted.

        ``busy``: there was always something to send since the last tick. ``bytes_total`` counts
        up over the life of the lane.
        """
        if not busy or connections != self.wanted or now < self._rest_until:
            # What is idle, or has yet to get what it asked for, says nothing about speed.
            self._since = None
            if not busy and self._rate_before is not None:
                self._end_trial(now)
            return self.wanted
        if self._since is None:
            self._since, self._bytes_then = now, bytes_total
        elif now - self._since >= DIRECT_TRIAL_S:
            rate = (bytes_total - self._bytes_then) / (now - self._since)
            self._since = None
            self._judge(now, rate)
        return self.wanted

    def refused(self, now: float) -> None:
        """Note that no further connection could be had."""
        self._end_trial(now)

    def _judge(self, now: float, rate: float) -> None:
        if self._rate_before is not None and rate < self._rate_before * DIRECT_GAIN_MIN:
            self._end_trial(now)
        elif self.wanted < DIRECT_CONNECTIONS_MAX:
            self._rate_before = rate
            self.wanted += 1
        else:
            self._rate_before = None
            self._rest_until = now + DIRECT_TRIAL_REPEAT_S

    def _end_trial(self, now: float) -> None:
        """Do without the connection that was tried last."""
        self._rate_before = None
        self._since = None
        self.wanted = max(1, self.wanted - 1)
        self._rest_until = now + DIRECT_TRIAL_REPEAT_S
