"""Virtual time: what is to happen, in order, and nothing else that moves the clock.

Two things due at the same moment happen in the order in which they were asked for, so a run is the
same in any process.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable

FOREVER = float("inf")

Happen = Callable[[], None]


class Timer:
    """Something that is to happen; ``cancel`` has it not happen."""

    __slots__ = ("at", "happen")

    def __init__(self, at: float, happen: Happen) -> None:
        self.at = at
        self.happen: Happen | None = happen

    def cancel(self) -> None:
        """Have it not happen."""
        self.happen = None


class Clock:
    """The one heap of a run. Times are virtual seconds since its beginning."""

    def __init__(self) -> None:
        self.now = 0.0
        self.happened = 0
        """How many events there have been: what the engine's speed is counted in."""
        self._heap: list[tuple[float, int, Timer]] = []
        self._order = 0

    def at(self, when: float, happen: Happen) -> Timer:
        """Have something happen at ``when``, or now if that has passed."""
        timer = Timer(max(when, self.now), happen)
        self._order += 1
        heapq.heappush(self._heap, (timer.at, self._order, timer))
        return timer

    def after(self, delay_s: float, happen: Happen) -> Timer:
        """Have something happen ``delay_s`` from now."""
        return self.at(self.now + delay_s, happen)

    def next_at(self) -> float:
        """Return when the next event is due; infinity: nothing is left to happen."""
        while self._heap and self._heap[0][2].happen is None:
            heapq.heappop(self._heap)
        return self._heap[0][0] if self._heap else FOREVER

    def step(self, until_s: float = FOREVER) -> bool:
        """Let the next event happen; False if there is none up to ``until_s``."""
        heap = self._heap
        while heap:
            if heap[0][0] > until_s:
                return False
            at, _, timer = heapq.heappop(heap)
            if (happen := timer.happen) is not None:
                self.now, timer.happen = at, None
                self.happened += 1
                happen()
                return True
        return False

    def run(self, until_s: float = FOREVER, stop: Callable[[], bool] = lambda: False) -> None:
        """Let time pass up to ``until_s``, or until ``stop`` says so or nothing is left."""
        while not stop() and self.step(until_s):
            pass
