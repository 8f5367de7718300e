"""The node's limits and its uploads, driven by the clock: see ``protocol/shaping``."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable, Iterable, Sequence

from dreamer.protocol.limits import RATE_SCHEDULE_INTERVAL_S, UPLOAD_SLOTS
from dreamer.protocol.shaping.meters import Shaping
from dreamer.protocol.shaping.rates import Limits
from dreamer.protocol.shaping.uploads import Key, Slice, Uploads
from dreamer.protocol.swarm.vocabulary import Lane

SendSlice = Callable[[Slice], None]
"""Sends a slice whose turn it is; ``Pace.sent`` is to be called once it has gone."""


def minute_of_day() -> int:
    """Return the minutes since midnight, local time."""
    now = time.localtime()
    return now.tm_hour * 60 + now.tm_min


class Pace:
    """One for all rooms of a node. All calls happen on the daemon's loop."""

    def __init__(
        self,
        limits: Limits | None = None,
        slots: int = UPLOAD_SLOTS,
        clock: Callable[[], float] = time.monotonic,
        minute: Callable[[], int] = minute_of_day,
    ) -> None:
        self._shaping = Shaping(limits or Limits())
        self._uploads = Uploads(slots, self._shaping.up)
        self._clock = clock
        self._minute = minute
        self._senders: dict[Key, SendSlice] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._stirred = False
        self.changed: list[Callable[[], None]] = []
        """Called when the limits may have become others; for lanes that keep them themselves."""
        self.look_at_clock()

    def look_at_clock(self) -> None:
        """Take the limits of this time of day."""
        self._shaping.set_time(self._minute(), self._clock())

    async def run(self) -> None:
        """Keep to the hours of the schedule until cancelled."""
        while True:
            await asyncio.sleep(RATE_SCHEDULE_INTERVAL_S)
            self.look_at_clock()
            for tell in self.changed:
                tell()
            self._pump()

    def limits(self, lane: Lane) -> tuple[float | None, float | None]:
        """Return the limits (up, down), bytes per second, of a lane that keeps them itself."""
        return self._shaping.of_lane(lane, self._minute())

    def uploaded(self, lane: Lane, size_bytes: int) -> None:
        """Count what a lane has sent by itself."""
        self._shaping.up.take(lane, False, size_bytes, self._clock())

    # What somebody waits for goes before blocks of models (tensors on their way to a peer)

    def promise(self, lane: Lane, lan: bool, size_bytes: int) -> None:
        """Count bytes that are to go before all others."""
        self._shaping.up.promise(lane, lan, size_bytes, self._clock())

    def take_back(self, lane: Lane, lan: bool, size_bytes: int) -> None:
        """Note that promised bytes won't go after all."""
        self._shaping.up.promise(lane, lan, -size_bytes, self._clock())

    def keep_promise(self, lane: Lane, lan: bool, size_bytes: int) -> None:
        """Note that promised bytes go now."""
        self._shaping.up.keep(lane, lan, size_bytes)

    def promised_room(self, lane: Lane, lan: bool) -> float:
        """Return how many promised bytes may go now; 0 or less: none."""
        return self._shaping.up.promised_level(lane, lan, self._clock())

    def promised_wait_s(self, lane: Lane, lan: bool) -> float:
        """Return in how many seconds some may."""
        now = self._clock()
        return max(0.0, self._shaping.up.promised_ready_at(lane, lan, now) - now)

    # What this node takes in (``swarm.asking.DownPace``)

    # The clock of each pull stands still while the daemon is halted, so no two of them agree, and
    # all pulls share these limits: it is this clock that counts.

    def grant(self, lane: Lane, lan: bool, now: float) -> float:
        """Return how many bytes may be asked for."""
        return self._shaping.down.level(lane, lan, self._clock())

    def take(self, lane: Lane, lan: bool, size_bytes: int, now: float) -> None:
        """Count bytes that were asked for, or that won't come after all."""
        self._shaping.down.take(lane, lan, size_bytes, self._clock())

    # What this node sends (``RoomUploads``); ``settle`` is to be called after these

    def admits(self, peer: Hashable, lane: Lane, *, lan: bool) -> bool:
        """Return whether a peer is to be served now; see ``Uploads.admits``."""
        return self._uploads.admits(peer, lane, lan, self._clock())

    def slot_free(self) -> bool:
        """Return whether a peer that was turned away may be told to come."""
        return self._uploads.slot_free(self._clock())

    def calls(self, peer: Hashable, lane: Lane, *, lan: bool) -> bool:
        """Return whether a peer is to be told to come; see ``Uploads.calls``."""
        return self._uploads.calls(peer, lane, lan, self._clock())

    def ask(
        self,
        key: Key,
        peer: Hashable,
        lane: Lane,
        blocks: Sequence[int],
        send: SendSlice,
        *,
        lan: bool,
    ) -> None:
        """Have blocks sent when it is their turn."""
        self._stirred = True
        self._senders[key] = send
        self._uploads.ask(key, peer, lane, blocks, self._clock(), lan=lan)

    def stop(self, key: Key, block: int | None) -> bool:
        """Leave out a block that was not sent yet, or the rest; True if nothing is left."""
        ended = self._uploads.stop(key, block)
        if ended:
            del self._senders[key]
        return ended

    def sent(self, key: Key) -> bool:
        """Note that a slice has gone; return True if it was the last of its request."""
        self._stirred = True
        ended = self._uploads.sent(key)
        if ended:
            del self._senders[key]
        return ended

    def forget(self, key: Key) -> None:
        """Send nothing more of a request."""
        if self._senders.pop(key, None) is not None:
            self._stirred = True
            self._uploads.forget(key)

    def settle(self) -> None:
        """Let those have their turn whose turn it is since something was asked for, or ended."""
        # Once all that happened together is noted: the next in turn may be of a link that is gone.
        if self._stirred:
            self._pump()

    def _pump(self) -> None:
        for due in self._uploads.next(self._clock()):
            self._senders[due.key](due)
        self._stirred = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        ready_at = self._uploads.ready_at(self._clock())
        if ready_at < float("inf"):
            delay = max(ready_at - self._clock(), 0.0)
            self._timer = asyncio.get_running_loop().call_later(delay, self._pump)


class RoomUploads:
    """One room's part of the queue, as ``Giving`` knows it: its slices come by ``send``.

    Not by ``next``: whose turn it is, is decided among the peers of all rooms.
    """

    def __init__(self, pace: Pace, send: SendSlice) -> None:
        self.pace = pace
        self._send = send

    def admits(self, peer: Hashable, lane: Lane, lan: bool, now: float) -> bool:
        """Return whether a peer is to be served now."""
        return self.pace.admits(peer, lane, lan=lan)

    def slot_free(self, now: float) -> bool:
        """Return whether a peer that was turned away may be told to come."""
        return self.pace.slot_free()

    def calls(self, peer: Hashable, lane: Lane, lan: bool, now: float) -> bool:
        """Return whether a peer is to be told to come."""
        return self.pace.calls(peer, lane, lan=lan)

    def ask(
        self,
        key: Key,
        peer: Hashable,
        lane: Lane,
        blocks: Sequence[int],
        now: float,
        *,
        lan: bool = False,
    ) -> None:
        """Have blocks sent when it is their turn."""
        self.pace.ask(key, peer, lane, blocks, self._send, lan=lan)

    def stop(self, key: Key, block: int | None) -> bool:
        """Leave out a block that was not sent yet, or the rest; True if nothing is left."""
        return self.pace.stop(key, block)

    def sent(self, key: Key) -> bool:
        """Note that a slice has gone; return True if it was the last of its request."""
        return self.pace.sent(key)

    def forget(self, key: Key) -> None:
        """Send nothing more of a request."""
        self.pace.forget(key)

    def next(self, now: float) -> Iterable[Slice]:
        """Return that nothing is to be sent: ``Pace.settle`` does that."""
        return ()

    def ready_at(self, now: float) -> float:
        """Return that there is nothing to wait for: ``Pace`` has its own timer."""
        return float("inf")
