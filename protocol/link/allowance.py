"""How often something may happen: a bucket of tokens that refills as time goes by."""

from __future__ import annotations


class Allowance:
    """At most ``burst`` at once and ``per_s`` in the long run; times are steady seconds."""

    def __init__(self, per_s: float, burst: float) -> None:
        self._per_s = per_s
        self._burst = burst
        self._tokens = burst
        self._at = float("-inf")

    def take(self, now: float) -> bool:
        """Take a token if one is there."""
        if self._at > float("-inf"):
            self._tokens = min(self._burst, self._tokens + (now - self._at) * self._per_s)
        self._at = now
        if self._tokens < 1.0:
            return False
        self._tokens -= 1.0
        return True
