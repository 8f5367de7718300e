"""What a download knows of one source: what it holds, how fast it is, what it was asked for."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from dreamer.protocol.limits import (
    BLOCK_BYTES,
    ENDGAME_STALE_BLOCKS,
    ENDGAME_STALE_S,
    REQUEST_FIRST_BLOCKS,
    REQUEST_MAX_BLOCKS,
    REQUEST_ORIGIN_MAX_BLOCKS,
    REQUEST_PROBE_S,
    REQUEST_TARGET_S,
    REQUEST_TIMEOUT_BLOCKS,
    REQUEST_TIMEOUT_S,
    REQUESTS_IN_FLIGHT_MAX,
    REQUESTS_IN_FLIGHT_MIN,
    SOURCE_MIN_BYTES_S,
)
from dreamer.protocol.swarm import bitfield
from dreamer.protocol.swarm.grain import blocks_for
from dreamer.protocol.swarm.rate import RateMeter
from dreamer.protocol.swarm.vocabulary import Lane, SourceId


@dataclass(slots=True)
class Source:
    """One peer or the origin. ``requests`` maps a request to the set of blocks still to come."""

    id: SourceId
    lane: Lane
    blocks: int
    block_bytes: int = BLOCK_BYTES
    meter: RateMeter = field(default_factory=RateMeter)
    requests: dict[int, int] = field(default_factory=dict)
    quiet_since: float = 0.0
    waiting_since: float = 0.0
    resting_until: float = 0.0
    strikes: int = 0
    usable: bool = True
    lan: bool = False
    owed: int = 0
    """How many blocks it was asked for and has not sent; of ``requests``, counted as they come."""
    counted: int = 0
    """What of ``blocks`` counts as available: nothing while it can't be used or has hung."""
    _trickle: int = 0
    _probed_at: float = float("-inf")

    @property
    def hung(self) -> bool:
        """Whether it was last heard of when it stopped answering."""
        return self.strikes > 0

    def request_blocks(self, sharers: int = 1) -> int:
        """Return how many blocks make about one second of this source's measured rate.

        While nothing is measured, ``sharers`` that begin together ask for little each, or the
        first would fill the source's pipe for seconds.
        """
        most = REQUEST_ORIGIN_MAX_BLOCKS if self.lane is Lane.ORIGIN else REQUEST_MAX_BLOCKS
        if not self.meter.bytes_per_s:
            return max(blocks_for(REQUEST_FIRST_BLOCKS, self.block_bytes) // sharers, 1)
        blocks = int(self.meter.bytes_per_s * REQUEST_TARGET_S / self.block_bytes)
        return min(max(blocks, 1), blocks_for(most, self.block_bytes))

    def room_blocks(self, now: float, sharers: int = 1) -> int:
        """Return how many blocks it may be asked for now; 0 while its pipe is full.

        Two requests of a second each are under way, or more of fewer blocks: while one is being
        sent the next waits there, and never more than two seconds' worth.
        """
        if not self.usable or now < self.resting_until:
            return 0
        each = self.request_blocks(sharers)
        if each == 1 and self.requests and now < self._probed_at + REQUEST_PROBE_S:
            # Where single blocks count, one that was idle is asked for one: it may be busy, and
            # others may bring the next one sooner.
            return 0
        room = max(self._pipe_blocks(), REQUESTS_IN_FLIGHT_MIN * each) - self.owed
        if room <= 0 or len(self.requests) >= REQUESTS_IN_FLIGHT_MAX:
            return 0
        return each if room >= each or len(self.requests) < REQUESTS_IN_FLIGHT_MIN else 0

    def _pipe_blocks(self) -> int:
        # A request of the origin's is bounded, so a fast one is asked for many at once.
        seconds = REQUESTS_IN_FLIGHT_MIN * REQUEST_TARGET_S
        return int(self.meter.bytes_per_s * seconds / self.block_bytes)

    def move(self, lane: Lane, usable: bool, lan: bool) -> None:
        """Go on over another lane, of whose rate nothing is known.

        It rests no longer: perhaps it was the lane that hung. That it did still counts.
        """
        self.lane, self.usable, self.lan = lane, usable, lan
        self.resting_until = 0.0
        self.forget_requests()
        self.meter = RateMeter()

    def forget_requests(self) -> None:
        """Wait for nothing any more."""
        self.requests.clear()
        self.owed = 0

    def asked(self, request: int, blocks: int, now: float) -> None:
        """Note a new request."""
        if not self.requests:
            self.meter.begin(now)
            self.quiet_since = self.waiting_since = self._probed_at = now
        self.requests[request] = blocks
        self.owed += blocks.bit_count()

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
        self._probed_at = float("-inf")

    def settle(self, request: int, block: int) -> bool:
        """Take a block off a request, which ends when nothing is left; False: it was not there."""
        left = self.requests.get(request, 0)
        if not left >> block & 1:
            return False
        self.owed -= 1
        left ^= 1 << block
        if left:
            self.requests[request] = left
        else:
            del self.requests[request]
        return True

    def end(self, request: int) -> int:
        """Wait no more for a request; return the blocks that had not come."""
        left = self.requests.pop(request, 0)
        self.owed -= left.bit_count()
        return left

    def requests_for(self, blocks: int) -> Iterator[tuple[int, int]]:
        """Yield (request, block) for each of ``blocks`` that is still to come."""
        for request, left in list(self.requests.items()):
            for block in bitfield.members(left & blocks):
                yield request, block

    def pending(self) -> int:
        """Return the set of blocks it was asked for and has not sent."""
        union = 0
        for left in self.requests.values():
            union |= left
        return union

    def seconds_for(self, block_count: int) -> float:
        """Return how long it should take for ``block_count`` blocks; infinity while unmeasured."""
        rate = self.meter.bytes_per_s
        return block_count * self.block_bytes / rate if rate else float("inf")

    def _usual_s(self) -> float:
        return self.seconds_for(1) if self.meter.bytes_per_s else 0.0

    def hung_at(self) -> float:
        """Return when it will count as hung if nothing comes; infinity while it is idle.

        One whose blocks come slowly, each at once after a pause (its owner has set a limit), gets
        the time of some of them.
        """
        if not self.requests:
            return float("inf")
        return self.quiet_since + max(REQUEST_TIMEOUT_S, REQUEST_TIMEOUT_BLOCKS * self._usual_s())

    def hangs(self, now: float) -> bool:
        """Return whether ``hung_at`` has come: asked often, and mostly far from it."""
        return now >= self.quiet_since + REQUEST_TIMEOUT_S and now >= self.hung_at()

    def stale_at(self) -> float:
        """Return when it may be overtaken if no block is whole by then; infinity while idle.

        Bytes alone don't count: a peer that was quick may let its last block trickle in.
        """
        if not self.requests:
            return float("inf")
        return self.waiting_since + max(ENDGAME_STALE_S, ENDGAME_STALE_BLOCKS * self._usual_s())

    def stale(self, now: float) -> bool:
        """Return whether ``stale_at`` has come."""
        return now >= self.waiting_since + ENDGAME_STALE_S and now >= self.stale_at()

    def strike(self, now: float, rest_s: float) -> None:
        """Note that it hung: it rests, longer each time."""
        self.strikes += 1
        self.resting_until = now + rest_s * self.strikes
