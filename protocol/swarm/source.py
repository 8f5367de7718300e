"""What a download knows of one source: what it holds, how fast it is, what it was asked for."""

from __future__ import annotations

from dataclasses import dataclass, field

from dreamer.protocol.limits import (
    BLOCK_BYTES,
    ENDGAME_STALE_BLOCKS,
    ENDGAME_STALE_S,
    REQUEST_FIRST_BLOCKS,
    REQUEST_MAX_BLOCKS,
    REQUEST_TARGET_S,
    REQUEST_TIMEOUT_S,
    REQUESTS_IN_FLIGHT_PER_SOURCE,
    SNUB_S,
    SOURCE_MIN_BYTES_S,
)
from dreamer.protocol.swarm.rate import RateMeter
from dreamer.protocol.swarm.vocabulary import Lane, SourceId


@dataclass
class Source:
    """One peer or the origin. ``requests`` maps a request to the set of blocks still to come."""

    id: SourceId
    lane: Lane
    blocks: int
    meter: RateMeter = field(default_factory=RateMeter)
    requests: dict[int, int] = field(default_factory=dict)
    quiet_since: float = 0.0
    waiting_since: float = 0.0
    resting_until: float = 0.0
    strikes: int = 0
    usable: bool = True
    _trickle: int = 0

    def request_blocks(self) -> int:
        """Return how many blocks make about one second of this source's measured rate."""
        if not self.meter.bytes_per_s:
            return REQUEST_FIRST_BLOCKS
        blocks = round(self.meter.bytes_per_s * REQUEST_TARGET_S / BLOCK_BYTES)
        return min(max(blocks, 1), REQUEST_MAX_BLOCKS)

    def ready(self, now: float) -> bool:
        """Return whether another request may be put to it."""
        return (
            self.usable
            and now >= self.resting_until
            and len(self.requests) < REQUESTS_IN_FLIGHT_PER_SOURCE
        )

    def move(self, lane: Lane, usable: bool) -> None:
        """Go on over another lane, of whose rate nothing is known."""
        self.lane, self.usable = lane, usable
        self.requests.clear()
        self.meter = RateMeter()

    def asked(self, request: int, blocks: int, now: float) -> None:
        """Note a new request."""
        if not self.requests:
            self.meter.begin(now)
            self.quiet_since = self.waiting_since = now
        self.requests[request] = blocks

    def alive(self, size_bytes: int, now: float) -> None:
        """Note unverified bytes: they count as life only above a minimal rate (slowloris)."""
        self._trickle += size_bytes
        if self._trickle >= SOURCE_MIN_BYTES_S * max(now - self.quiet_since, 0.1):
            self.quiet_since, self._trickle = now, 0

    def progressed(self, size_bytes: int, now: float) -> None:
        """Note a verified block."""
        self.meter.add(size_bytes, now)
        self.quiet_since = self.waiting_since = now
        self._trickle = self.strikes = 0

    def settle(self, request: int, block: int) -> None:
        """Take a block off a request; a request with nothing left is done."""
        left = self.requests.get(request)
        if left is not None:
            left &= ~(1 << block)
            if left:
                self.requests[request] = left
            else:
                del self.requests[request]

    def pending(self) -> int:
        """Return the set of blocks it was asked for and has not sent."""
        union = 0
        for left in self.requests.values():
            union |= left
        return union

    def seconds_for(self, block_count: int) -> float:
        """Return how long it should take for ``block_count`` blocks; infinity while unmeasured."""
        rate = self.meter.bytes_per_s
        return block_count * BLOCK_BYTES / rate if rate else float("inf")

    def hung_at(self) -> float:
        """Return when it will count as hung if nothing comes; infinity while it is idle."""
        return self.quiet_since + REQUEST_TIMEOUT_S if self.requests else float("inf")

    def stale_at(self) -> float:
        """Return when it may be overtaken if no block is whole by then; infinity while idle.

        Bytes alone don't count: a peer that was quick may let its last block trickle in.
        """
        if not self.requests:
            return float("inf")
        usual_s = self.seconds_for(1) if self.meter.bytes_per_s else 0.0
        return self.waiting_since + max(ENDGAME_STALE_S, ENDGAME_STALE_BLOCKS * usual_s)

    def strike(self, now: float) -> None:
        """Note that it hung: it rests, longer each time."""
        self.strikes += 1
        self.resting_until = now + SNUB_S * self.strikes
