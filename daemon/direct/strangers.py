"""How many connections may wait to say who they are, in all and from one address."""

from __future__ import annotations

from collections import Counter

from dreamer.daemon.direct.addresses import ip_of
from dreamer.protocol.limits import DIRECT_HANDSHAKES_MAX, DIRECT_HANDSHAKES_PER_ADDRESS


class Strangers:
    """Counts connections of which nothing is known yet. Used on the daemon's loop."""

    def __init__(self) -> None:
        self._waiting: Counter[str] = Counter()

    def enter(self, host: str) -> str | None:
        """Count one more and return what to give back to ``leave``; None: there are too many."""
        whose = _whose(host)
        if self._waiting.total() >= DIRECT_HANDSHAKES_MAX:
            return None
        if self._waiting[whose] >= DIRECT_HANDSHAKES_PER_ADDRESS:
            return None
        self._waiting[whose] += 1
        return whose

    def leave(self, whose: str) -> None:
        """Count one less."""
        self._waiting[whose] -= 1
        if not self._waiting[whose]:
            del self._waiting[whose]


def _whose(host: str) -> str:
    ip = ip_of(host)
    # One owner has all of a /64.
    return str(ip) if ip is None or ip.version == 4 else ip.exploded[:19]
