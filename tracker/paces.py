"""How fast each of many may come: a token bucket apiece, which outlives their connections.

A bucket is kept as one number, the time at which it will be full again (the "generic cell rate
algorithm" of ATM networks, ITU-T I.371). One that is full is forgotten: it is like a new one.
"""

from __future__ import annotations

from collections.abc import Hashable
from itertools import islice

from dreamer.protocol.tracker_limits import TRACKER_PACES_KEPT

# A hundred tenths are a little more than ten.
_ROUNDING_S = 1e-6


class Paces:
    """Buckets of ``burst`` tokens that refill at ``per_s``; ``now`` is steady time, in seconds."""

    def __init__(self, per_s: float, burst: float) -> None:
        self._token_s = 1 / per_s
        self._burst_s = burst / per_s
        self._full_at: dict[Hashable, float] = {}

    def __len__(self) -> int:
        return len(self._full_at)

    def delay_s(self, whose: Hashable, now: float) -> float:
        """Take one token and return the seconds until it is really there."""
        # Taken out and put back at the end, the dict stays in order of use.
        full_at = max(self._full_at.pop(whose, now), now) + self._token_s
        self._full_at[whose] = full_at
        self._forget_some(now)
        late_s = full_at - now - self._burst_s
        return late_s if late_s > _ROUNDING_S else 0.0

    def allows(self, whose: Hashable, now: float) -> bool:
        """Take a token if one is there."""
        full_at = max(self._full_at.get(whose, now), now)
        if full_at + self._token_s - now > self._burst_s + _ROUNDING_S:
            return False
        self.delay_s(whose, now)
        return True

    def _forget_some(self, now: float) -> None:
        # Two for one that comes: so all that are full go in time, and no call takes long.
        for oldest in list(islice(self._full_at, 2)):
            # Who has so many addresses or keys gains nothing by having one of them forgotten.
            if self._full_at[oldest] <= now or len(self._full_at) > TRACKER_PACES_KEPT:
                del self._full_at[oldest]
