"""The tokens that somebody may say at our port: each once, for seconds, for one purpose."""

from __future__ import annotations

import hmac
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from dreamer.protocol.limits import DIRECT_TOKEN_TTL_S

Greeted = Callable[[ssl.SSLSocket, float], None]
"""Takes a connection on which the right token was said, and the deadline of its greeting.

Called in a thread; it closes the connection, or keeps it.
"""


@dataclass(frozen=True)
class Awaited:
    """A token that may still be said."""

    token: bytes
    expires_at: float
    greeted: Greeted


class Tokens:
    """All tokens that are waited for at this node. Its methods may be called in any thread."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._awaited: list[Awaited] = []

    def add(self, token: bytes, greeted: Greeted) -> None:
        """Wait for a token."""
        with self._lock:
            self._awaited.append(Awaited(token, self._clock() + DIRECT_TOKEN_TTL_S, greeted))

    def forget(self, token: bytes) -> None:
        """Wait for it no more; it may be gone already."""
        with self._lock:
            self._awaited = [one for one in self._awaited if one.token != token]

    def any(self) -> bool:
        """Return whether anybody is to come at all."""
        with self._lock:
            self._expire()
            return bool(self._awaited)

    def redeem(self, said: bytes) -> Greeted | None:
        """Return what the token was for, and forget it; None if nobody waits for it."""
        found = None
        with self._lock:
            self._expire()
            # Every one is compared, in constant time: how long it takes tells nothing.
            for one in self._awaited:
                if hmac.compare_digest(one.token, said):
                    found = one
            if found is not None:
                self._awaited.remove(found)
        return found.greeted if found is not None else None

    def _expire(self) -> None:
        now = self._clock()
        self._awaited = [one for one in self._awaited if now < one.expires_at]
