"""What waits to be sent to one client: bounded, and no other client can fill it up.

Three rules. What the tracker itself has to say is always taken, until all of it together is too
much: a client that reads so little is lost. What another client has it hand on is taken only while
that sender has little waiting here, and only into half of the room. So a sender that bursts loses
its own messages, never the connection of the one they are for.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable
from typing import AnyStr, Generic

from dreamer.protocol.tracker_limits import TRACKER_FORWARDED_MAX_BYTES


class Outbox(Generic[AnyStr]):
    """Messages in the order in which they are to be sent; ``max_bytes`` bounds all of them.

    Texts count by their characters, frames by their bytes.
    """

    __slots__ = ("_bytes", "_max_bytes", "_shares", "_waiting")

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._waiting: deque[tuple[AnyStr, Hashable]] = deque()
        self._bytes = 0
        self._shares: dict[Hashable, int] = {}

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def overfull(self) -> bool:
        """Whether more is waiting than any client that reads would let wait."""
        return self._bytes > self._max_bytes

    def put(self, message: AnyStr) -> None:
        """Take a message of the tracker's own; ``overfull`` tells whether that was too much."""
        self._waiting.append((message, None))
        self._bytes += len(message)

    def forward(self, sender: Hashable, message: AnyStr) -> bool:
        """Take a message that ``sender`` has handed on; False when it is dropped."""
        share = self._shares.get(sender, 0) + len(message)
        if share > TRACKER_FORWARDED_MAX_BYTES or self._bytes + len(message) > self._max_bytes // 2:
            return False
        self._shares[sender] = share
        self._waiting.append((message, sender))
        self._bytes += len(message)
        return True

    def first(self) -> AnyStr:
        """Return the message to send next; it stays until ``sent``."""
        return self._waiting[0][0]

    def sent(self) -> None:
        """Forget the first message: the client's connection has taken it."""
        message, sender = self._waiting.popleft()
        self._bytes -= len(message)
        if sender in self._shares:
            self._shares[sender] -= len(message)
            if not self._shares[sender]:
                del self._shares[sender]

    def clear(self) -> None:
        """Forget everything."""
        self._waiting.clear()
        self._shares.clear()
        self._bytes = 0
