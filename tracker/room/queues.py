"""Work on one room's behalf, in turn: rooms don't wait for each other, and no queue grows long."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from dreamer.protocol.errors import ConflictError
from dreamer.protocol.ids import RoomId


class QueueFullError(ConflictError):
    """As many wait for this room as may."""


@dataclass
class _Queue:
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    there: int = 0


class RoomQueues:
    """One at a time for each room, while ``waiting`` more may wait; the rest is turned away."""

    def __init__(self, waiting: int) -> None:
        self._places = waiting + 1
        self._queues: dict[RoomId, _Queue] = {}

    def there(self, room: RoomId) -> int:
        """Return how many have their turn in a room, or wait for it."""
        return self._queues[room].there if room in self._queues else 0

    @asynccontextmanager
    async def turn(self, room: RoomId) -> AsyncIterator[None]:
        """Wait for the turn; it is over when the context ends.

        Raises:
            QueueFullError: too many wait already.
        """
        queue = self._queues.setdefault(room, _Queue())
        if queue.there >= self._places:
            raise QueueFullError("too many reports of this room wait")
        queue.there += 1
        try:
            async with queue.lock:
                yield
        finally:
            queue.there -= 1
            # Whoever has a key has a room: nothing is kept of one that nobody waits for.
            if not queue.there:
                del self._queues[room]
