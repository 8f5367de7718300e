"""How late the daemon's event loop runs: what a request waits for before anybody looks at it.

A beat is due every ``LOOP_BEAT_S``; its lag is how late it came. A loop that was held up for half
a second came late once, but everything due in that time waited too, so each beat that fell into it
counts with its own lag: else the worst stalls would weigh least ("coordinated omission").
"""

from __future__ import annotations

import asyncio
import math
from bisect import bisect_left
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

from dreamer.protocol.limits import LOOP_BEAT_S, LOOP_LAG_WINDOW_BEATS

BUCKETS_S = (0.001, 0.002, 0.005, 0.01, 0.015, 0.02, 0.03, 0.05, 0.1, 0.2, 0.5, 1.0)
"""Upper bounds of the histogram since start; what is later falls into one more."""


@dataclass(frozen=True)
class LagSummary:
    """Lag of the last minute's beats in ms, and the histogram since start.

    ``beats[i]`` counts those at most ``BUCKETS_S[i]`` late, and later than the bucket before;
    the last counts the rest. ``total_s`` is the sum of all lags.
    """

    p50_ms: float
    p99_ms: float
    max_ms: float
    beats: tuple[int, ...]
    total_s: float


class LoopLag:
    """Measures while ``run`` runs: some 20 wake-ups a second, one sort when somebody asks."""

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        self._clock = clock
        self._recent: deque[float] = deque(maxlen=LOOP_LAG_WINDOW_BEATS)
        self._beats = [0] * (len(BUCKETS_S) + 1)
        self._total_s = 0.0

    async def run(self) -> None:
        """Measure until cancelled."""
        loop = asyncio.get_running_loop()
        clock = self._clock or loop.time
        due = clock() + LOOP_BEAT_S
        while True:
            await asyncio.sleep(due - clock())
            due = self.beat(due, clock())

    def beat(self, due: float, now: float) -> float:
        """Note the beat that was due then, and those missed since; return when the next is."""
        late = max(0.0, now - due)
        # After a process was halted for long, more beats than the window holds say nothing new.
        missed = min(int(late / LOOP_BEAT_S), LOOP_LAG_WINDOW_BEATS)
        for number in range(missed + 1):
            self._note(late - number * LOOP_BEAT_S)
        return due + (int(late / LOOP_BEAT_S) + 1) * LOOP_BEAT_S

    def summary(self) -> LagSummary:
        """Return what has been measured."""
        lags = sorted(self._recent)
        return LagSummary(
            p50_ms=_percentile_ms(lags, 0.5),
            p99_ms=_percentile_ms(lags, 0.99),
            max_ms=_percentile_ms(lags, 1.0),
            beats=tuple(self._beats),
            total_s=self._total_s,
        )

    def _note(self, lag: float) -> None:
        self._recent.append(lag)
        self._beats[bisect_left(BUCKETS_S, lag)] += 1
        self._total_s += lag


def _percentile_ms(ordered: list[float], share: float) -> float:
    """Return the least of the lags that this share of them does not exceed (nearest rank)."""
    if not ordered:
        return 0.0
    return round(ordered[max(0, math.ceil(share * len(ordered)) - 1)] * 1000, 3)
