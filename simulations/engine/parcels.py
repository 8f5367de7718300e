"""What one end sends the other: parcels, one at a time, in the order in which they were sent."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

Done = Callable[[], None]


class Parcel:
    """Bytes that belong together. ``done`` is called when the last of them has left."""

    __slots__ = ("done", "size_bytes", "waits")

    def __init__(self, size_bytes: float, done: Done) -> None:
        self.size_bytes = size_bytes
        self.done = done
        self.waits = True
        """Whether it is still to be begun: not when it is under way, through, or taken back."""


class Line(Protocol):
    """The network as a flow sees it; a flow's ``slot`` is its number there."""

    def begin(self, slot: int, size_bytes: float) -> None:
        """Have a flow send a parcel from now on."""

    def run_dry(self, slot: int) -> None:
        """Have a flow take nothing any more."""

    def free(self, slot: int) -> None:
        """Take back the slot of a flow that is closed."""

    def rate(self, slot: int) -> float:
        """Return a flow's rate in bytes per second."""

    def left(self, slot: int) -> float:
        """Return what the head of a flow's queue has still to send."""


class Flow:
    """A queue of parcels through ``pipes``. ``Flows.open`` makes them."""

    __slots__ = ("_gone_bytes", "_head", "_line", "_queue", "_slot", "_waiting_bytes", "pipes")

    def __init__(self, line: Line, slot: int, pipes: tuple[int, ...]) -> None:
        self.pipes = pipes
        self._line: Line | None = line
        self._slot = slot
        self._head: Parcel | None = None
        self._queue: deque[Parcel] = deque()
        self._waiting_bytes = 0.0
        self._gone_bytes = 0.0

    @property
    def rate(self) -> float:
        """Bytes per second at this moment."""
        return self._line.rate(self._slot) if self._line is not None else 0.0

    @property
    def delivered_bytes(self) -> float:
        """What has left so far, also of parcels that were taken back half way."""
        return self._gone_bytes + self._head_sent()

    @property
    def backlog_bytes(self) -> float:
        """What was sent and has not left yet."""
        head = self._head.size_bytes if self._head is not None else 0.0
        return self._waiting_bytes + head - self._head_sent()

    def _head_sent(self) -> float:
        if self._head is None or self._line is None:
            return 0.0
        return self._head.size_bytes - self._line.left(self._slot)

    def send(self, size_bytes: float, done: Done) -> Parcel:
        """Put a parcel at the end of the queue.

        Raises:
            ValueError: The flow is closed.
        """
        if self._line is None:
            raise ValueError("nothing can be sent over a flow that is closed")
        parcel = Parcel(size_bytes, done)
        if self._head is None:
            self._begin(self._line, parcel)
        else:
            self._queue.append(parcel)
            self._waiting_bytes += size_bytes
        return parcel

    def _begin(self, line: Line, parcel: Parcel) -> None:
        parcel.waits = False
        self._head = parcel
        line.begin(self._slot, parcel.size_bytes)

    def head_left(self) -> None:
        """Go on to the next parcel; the network says so when the head has left."""
        head, line = self._head, self._line
        if head is None or line is None:
            return
        self._gone_bytes += head.size_bytes
        self._next(line)
        head.done()
        # Only now: who sends again from ``done`` keeps the share it has.
        if self._head is None and self._line is not None:
            line.run_dry(self._slot)

    def _next(self, line: Line) -> bool:
        self._head = None
        while self._queue:
            parcel = self._queue.popleft()
            if parcel.waits:
                self._waiting_bytes -= parcel.size_bytes
                self._begin(line, parcel)
                return True
        return False

    def drop(self, parcel: Parcel) -> float:
        """Take a parcel back, its ``done`` is not called; return what of it has left already.

        One under way stops at once, and the next one begins. One that is through stays so.
        """
        if parcel.waits:
            # It is left out when its turn comes: searching the queue would cost its length.
            parcel.waits = False
            self._waiting_bytes -= parcel.size_bytes
        elif parcel is self._head and self._line is not None:
            sent = self._head_sent()
            self._gone_bytes += sent
            if not self._next(self._line):
                self._line.run_dry(self._slot)
            return sent
        return 0.0

    def close(self) -> None:
        """Send nothing more: what is queued is lost, and no ``done`` is called."""
        if self._line is None:
            return
        self._gone_bytes += self._head_sent()
        line, self._line = self._line, None
        for parcel in self._queue:
            parcel.waits = False
        self._head = None
        self._queue.clear()
        self._waiting_bytes = 0.0
        line.run_dry(self._slot)
        line.free(self._slot)
