"""What the bodies of all requests under way hold in memory, and how much that may be."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from dreamer.protocol.errors import BusyError
from dreamer.protocol.inference_limits import OIP_BODIES_MAX_BYTES


class HeldBodies:
    """The bodies of one node's requests: those that wait in a queue are held as well."""

    def __init__(self, most_bytes: int = OIP_BODIES_MAX_BYTES) -> None:
        self._most_bytes = most_bytes
        self.held_bytes = 0

    @contextmanager
    def body(self) -> Iterator[HeldBody]:
        """Count one body, which is let go at the end."""
        held = HeldBody(self)
        try:
            yield held
        finally:
            self.held_bytes -= held.size_bytes

    def take(self, more_bytes: int) -> None:
        """Count bytes that are about to be held.

        Raises:
            BusyError: others hold so much that these must wait.
        """
        # One alone is always let in: its own bound holds for it.
        if self.held_bytes and self.held_bytes + more_bytes > self._most_bytes:
            raise BusyError(
                f"requests under way hold {self.held_bytes} bytes already: ask again in a moment"
            )
        self.held_bytes += more_bytes


class HeldBody:
    """The room for one body."""

    def __init__(self, bodies: HeldBodies) -> None:
        self._bodies = bodies
        self.size_bytes = 0

    def grow(self, size_bytes: int) -> None:
        """Make room for ``size_bytes`` in all; raises as ``HeldBodies.take``."""
        if size_bytes > self.size_bytes:
            self._bodies.take(size_bytes - self.size_bytes)
            self.size_bytes = size_bytes
