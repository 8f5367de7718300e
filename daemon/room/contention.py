"""How long one of many writers waits, so that each gets its turn and few get in another's way.

Whoever finds that another was first waits a time drawn by chance, from a range that doubles, and
halves with each success: so the range comes to fit how many writers there are. Who has succeeded
waits, too, if it met others; else it would go on while they wait, and one writer would make all its
changes before another makes one. One that is alone waits for nothing.
"""

from __future__ import annotations

from random import Random

from dreamer.protocol.registry_limits import (
    REGISTRY_CROWD_MAX,
    REGISTRY_RETRY_BASE_S,
    REGISTRY_RETRY_MAX_S,
    REGISTRY_YIELD,
)


class Contention:
    """One writer's view of the others. Times in seconds, of a clock that never goes back."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._crowd = 0
        self._not_before = 0.0

    def lost(self) -> float:
        """Note that another was first; return how long to wait before the next try."""
        self._crowd = min(REGISTRY_CROWD_MAX, self._crowd + 1)
        return self._drawn_s()

    def won(self, now: float) -> None:
        """Note a success."""
        self._crowd = max(0, self._crowd - 1)
        self._not_before = now + REGISTRY_YIELD * self._drawn_s()

    def courtesy_s(self, now: float) -> float:
        """Return how long to wait before the first try of another change."""
        return max(0.0, self._not_before - now)

    def _drawn_s(self) -> float:
        if not self._crowd:
            return 0.0
        ceiling = min(REGISTRY_RETRY_MAX_S, REGISTRY_RETRY_BASE_S * 2.0**self._crowd)
        return self._rng.uniform(0, ceiling)
