"""The planner of one pull: which blocks to ask of whom, and when to turn to the origin.

Runs of about a second of each source's rate, two seconds in flight, so that no pipe runs dry
(``asking.py``). When nothing is left to ask for, an idle source takes over the tail of a slower
one's request (``endgame.py``). The origin gives only what no peer has, and of that only this node's
share while others pull the same (``crowd.py``); or anything once ``ORIGIN_AFTER_NO_PROGRESS_S``
have passed without a verified block from a peer.

Feed every event through ``handle`` and carry out the commands it returns; call it with a
``Tick`` at ``next_wake``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from dreamer.protocol.errors import LocalProtocolError
from dreamer.protocol.limits import (
    BUSY_MEMBER_RETRY_S,
    BUSY_RETRY_S,
    DISCOVERY_MAX_S,
    ORIGIN_AFTER_NO_PROGRESS_S,
    PULL_NO_SOURCE_TIMEOUT_S,
    PULL_STALL_TIMEOUT_S,
    SNUB_S,
    SOURCE_MAX_STRIKES,
)
from dreamer.protocol.swarm import bitfield
from dreamer.protocol.swarm.asking import Asking, DownPace
from dreamer.protocol.swarm.crowd import Crowd
from dreamer.protocol.swarm.holdings import Holdings
from dreamer.protocol.swarm.remaining import Geometry, Remaining
from dreamer.protocol.swarm.source import Source
from dreamer.protocol.swarm.standstill import stalled
from dreamer.protocol.swarm.vocabulary import (
    Blame,
    BlockRejected,
    BlocksFound,
    BlockVerified,
    BytesArrived,
    Cancel,
    Command,
    Complete,
    CrowdSeen,
    DiscoveryEnded,
    Drop,
    Event,
    FileFinished,
    FinishFile,
    GiveUp,
    Lane,
    RequestRefused,
    Share,
    SourceGained,
    SourceId,
    SourceJoined,
    SourceLacks,
    SourceLost,
    SourceMoved,
    Tick,
)

if TYPE_CHECKING:
    from random import Random

NAMELESS = SourceId("")
"""A node that pulls with nobody else around."""


class Download:
    """One model on its way in. ``present`` holds the verified blocks.

    ``numbers`` yields the numbers of requests; the downloads of a node share it, so that a
    number means one request on every link. ``own`` is how other downloaders name this node.
    """

    def __init__(
        self,
        geometry: Geometry,
        present: int,
        numbers: Iterator[int],
        rng: Random,
        now: float,
        own: SourceId = NAMELESS,
        pace: DownPace | None = None,
    ) -> None:
        self._geometry = geometry
        self.present = present
        self._remaining = Remaining(geometry, present)
        self._everything = bitfield.full(geometry.block_count)
        self._crowd = Crowd(geometry.block_count, own, geometry.block_bytes)
        missing = self._remaining.blocks
        self._asking = Asking(
            missing, self._everything, self._crowd, numbers, rng, geometry.block_bytes
        )
        if pace is not None:
            self._asking.pace = pace
        self._sources = self._asking.sources
        self._lanes: dict[SourceId, Lane] = {}
        self._holdings = Holdings(self._asking, self._crowd, self._everything)
        self._unfinished = dict.fromkeys(range(geometry.file_count))
        self._started_at = now
        self._progress_at = now
        self._unverified_bytes = 0
        self._put_off_at = now
        self._useful_at = now
        self._over = False
        self._peers_progressed(now)
        self.bytes_by_lane: dict[Lane, int] = dict.fromkeys(Lane, 0)
        self.bytes_by_source: dict[SourceId, int] = {}
        self._handlers = {
            SourceJoined: self._on_joined,
            SourceGained: self._on_gained,
            SourceLacks: self._on_lacks,
            SourceMoved: self._on_moved,
            SourceLost: self._on_lost,
            CrowdSeen: self._on_crowd_seen,
            BlockVerified: self._on_verified,
            BlocksFound: self._on_found,
            BlockRejected: self._on_rejected,
            RequestRefused: self._on_refused,
            DiscoveryEnded: self._on_discovery_ended,
            FileFinished: self._on_file_finished,
            Tick: self._on_tick,
        }

    @property
    def missing(self) -> int:
        """The set of blocks not yet verified."""
        return self._remaining.blocks

    @property
    def missing_bytes(self) -> int:
        """Bytes not yet verified."""
        return self._remaining.size_bytes

    @property
    def deserted(self) -> bool:
        """Whether those who fetch for a large crowd have brought nothing for long."""
        return self._crowd.deserted

    def busy_lanes(self) -> list[Lane]:
        """Return the lanes on which something is being waited for."""
        return list(dict.fromkeys(s.lane for s in self._sources.values() if s.requests))

    def is_open(self, source: SourceId, request: int) -> bool:
        """Return whether blocks of a request are still to come."""
        found = self._sources.get(source)
        return found is not None and request in found.requests

    def start(self, now: float) -> list[Command]:
        """Return the first commands: files that are whole already, of which some have no block."""
        return [FinishFile(index) for index in self._remaining.whole_files()]

    def handle(self, event: Event, now: float) -> list[Command]:
        """Take one event at ``now`` (seconds, any monotonic origin); return what to do."""
        if self._over:
            return []
        if isinstance(event, SourceGained) and self.puts_off(event, now):
            return []
        if isinstance(event, BytesArrived):
            # None that gives anything to ask for.
            self._on_bytes(event, now)
            return []
        self._holdings.read(now)
        handler = self._handlers.get(type(event))
        if handler is None:
            raise LocalProtocolError(f"no such event: {event!r}")
        if self._helped(event):
            self._useful_at = now
        before = self._crowd.size
        commands: list[Command] = handler(event, now)  # type: ignore[operator]
        if self._crowd.size > before:
            commands += self._asking.leave_to_others(now)
        if not self._over:
            commands += self._asking.schedule(now)
        return commands

    def puts_off(self, event: SourceGained, now: float) -> bool:
        """Keep for later what a source has got if it is of no use now; False: it is to be handled.

        A driver with thousands of planners may ask this first: it is the most frequent event.
        """
        if put_off := now < self._asking.full_until and not self._over:
            self._holdings.put_off(event.source, event.blocks)
        return put_off

    def next_wake(self, now: float) -> float:
        """Return when the next Tick is due: sources that rest or hang are looked at then."""
        return now + self._asking.sweep_s

    # Sources come and go

    def _on_joined(self, event: SourceJoined, now: float) -> list[Command]:
        source = self._sources.get(event.source)
        if source is None or source.lane is not event.lane:
            self._on_lost(SourceLost(event.source), now)
            source = Source(event.source, event.lane, 0, self._geometry.block_bytes)
            self._sources[event.source] = source
            self._lanes[event.source] = event.lane
        source.lan = event.lan
        self._holdings.fetching[event.source] = event.fetching
        # One that says anew what it holds keeps its requests, its rate and its strikes.
        self._holdings.set(source, event.blocks, now)
        return []

    def _on_gained(self, event: SourceGained, now: float) -> list[Command]:
        self._holdings.gain(event.source, event.blocks, now)
        return []

    def _on_moved(self, event: SourceMoved, now: float) -> list[Command]:
        source = self._sources.get(event.source)
        if source is not None:
            self._asking.set_usable(source, event.lane, event.usable, event.lan, now)
            self._lanes[event.source] = event.lane
            self._holdings.set(source, source.blocks, now)
            self._holdings.rest_less(self.missing, now)
        return []

    def _on_lacks(self, event: SourceLacks, now: float) -> list[Command]:
        source = self._sources.get(event.source)
        if source is not None:
            self._asking.void(source, event.blocks, now)
            self._holdings.set(source, source.blocks & ~event.blocks, now)
        return []

    def _on_lost(self, event: SourceLost, now: float) -> list[Command]:
        source = self._sources.pop(event.source, None)
        if source is not None:
            self._asking.hold(source, 0)
            self._asking.drop_requests(source, now)
            self._crowd.lost(event.source)
            self._holdings.rest_less(self.missing, now)
        return []

    def _on_crowd_seen(self, event: CrowdSeen, now: float) -> list[Command]:
        before = self._crowd.share
        named = dict.fromkeys((*event.sources, *(event.committee or ())))
        unlinked = [one for one in named if one not in self._sources]
        self._crowd.seen(unlinked, now, event.committee)
        self._asking.touch_all()
        return self._asking.leave_to_others(now) if before & ~self._crowd.share else []

    def _on_discovery_ended(self, event: DiscoveryEnded, now: float) -> list[Command]:
        if self._asking.discovering:
            self._asking.discovering = False
            self._useful_at = now
            self._crowd.begin(now)
            self._asking.touch_all()
        return []

    # What sources send

    def _on_bytes(self, event: BytesArrived, now: float) -> list[Command]:
        if source := self._sources.get(event.source):
            source.alive(event.size_bytes, now)
            self._unverified_bytes += event.size_bytes
        return []

    def _on_verified(self, event: BlockVerified, now: float) -> list[Command]:
        size = self._geometry.block_size(event.block)
        source = self._sources.get(event.source)
        expected = False
        if source is not None:
            expected = source.settle(event.request, event.block)
            had_hung = source.hung
            source.progressed(size, now)
            self._asking.freed()
            self._asking.touch(source)
            if had_hung:
                self._holdings.set(source, source.blocks, now)
        if self.present >> event.block & 1:
            return []
        self._progress_at = now
        self._asking.in_flight.meter.add(size, now)
        # It may have been lost since, but its bytes are here.
        lane = self._lanes.get(event.source)
        if lane is not None:
            self.bytes_by_lane[lane] += size
            if lane is not Lane.ORIGIN:
                self._peers_progressed(now)
        self.bytes_by_source[event.source] = self.bytes_by_source.get(event.source, 0) + size
        self._crowd.took(event.block, now)
        return self._take(1 << event.block, anywhere=not expected)

    def _peers_progressed(self, now: float) -> None:
        self._asking.origin_open_at = now + ORIGIN_AFTER_NO_PROGRESS_S

    def _on_found(self, event: BlocksFound, now: float) -> list[Command]:
        found = event.blocks & ~self.present
        return self._take(found, anywhere=True) if found else []

    def _take(self, blocks: int, *, anywhere: bool) -> list[Command]:
        self.present |= blocks
        cancels = self._asking.cancel_copies(blocks, anywhere=anywhere)
        whole = [FinishFile(index) for index in self._remaining.take(blocks)]
        return [*cancels, Share(blocks), *whole]

    def _on_rejected(self, event: BlockRejected, now: float) -> list[Command]:
        commands: list[Command] = [Blame(event.source, event.block)]
        # What a liar sent says nothing of what the others send.
        self._unverified_bytes = 0
        source = self._sources.get(event.source)
        if source is None:
            return commands
        if source.lane is Lane.ORIGIN and source.strikes < SOURCE_MAX_STRIKES:
            # One damaged object must not cost the rest of the bucket.
            source.strikes += 1
            self._asking.hold(source, source.blocks & ~(1 << event.block))
            source.settle(event.request, event.block)
            self._asking.freed()
            self._asking.release(1 << event.block & ~self.present)
            return commands
        commands += [Cancel(source.id, request, None) for request in source.requests]
        return commands + self._on_lost(SourceLost(event.source), now)

    def _on_refused(self, event: RequestRefused, now: float) -> list[Command]:
        source = self._sources.get(event.source)
        if source is None:
            return []
        if event.request not in source.requests:
            if not event.busy and not source.hung:
                # What it refused because it was busy it would not refuse any more.
                source.resting_until = now
                self._asking.touch(source)
            return []
        blocks = self._asking.end_request(source, event.request, now)
        if event.busy:
            source.resting_until = now + BUSY_RETRY_S
            if source.lane is not Lane.ORIGIN:
                source.resting_until = now + BUSY_MEMBER_RETRY_S
                self._put_off_at = now
        elif source.lane is Lane.ORIGIN:
            return self._strike(source, now, refused=True)
        else:
            # It said it had them and has not: believe the newer word.
            self._holdings.set(source, source.blocks & ~blocks, now)
        return []

    # Files

    def _on_file_finished(self, event: FileFinished, now: float) -> list[Command]:
        self._unfinished.pop(event.file_index, None)
        self._progress_at = now
        if self._unfinished:
            return []
        self._over = True
        return [Complete()]

    # Time

    def _on_tick(self, event: Tick, now: float) -> list[Command]:
        if self._asking.discovering and now >= self._started_at + DISCOVERY_MAX_S:
            self._on_discovery_ended(DiscoveryEnded(), now)
        self._crowd.tick(self.missing, now)
        self._asking.touch_all()
        commands: list[Command] = []
        for source in list(self._asking.in_flight.owing.values()):
            if source.requests and source.hangs(now):
                commands += self._strike(source, now)
        return commands + self._give_up(now)

    def _strike(self, source: Source, now: float, *, refused: bool = False) -> list[Command]:
        commands = self._asking.drop_requests(source, now)
        replaced = refused or self._holdings.others_have(source, self.missing)
        source.strike(now, SNUB_S if replaced else BUSY_RETRY_S)
        self._asking.recount(source)
        if source.hung and self._holdings.fetching.get(source.id):
            # What it fetched for the others can't be had of it: they fetch it themselves.
            self._crowd.lost(source.id)
        if source.strikes >= SOURCE_MAX_STRIKES and source.lane is not Lane.ORIGIN:
            self._on_lost(SourceLost(source.id), now)
            commands.append(Drop(source.id))
        return commands

    def _give_up(self, now: float) -> list[Command]:
        if not self.missing:
            return []
        reason = ""
        if now >= self._useful_at + PULL_NO_SOURCE_TIMEOUT_S:
            reason = "nobody who is online has the missing blocks and the room's origin can't help"
        elif self._stalled(now):
            reason = f"no block has come for {PULL_STALL_TIMEOUT_S:.0f} s"
        self._over = bool(reason)
        return [GiveUp(reason)] if reason else []

    def _stalled(self, now: float) -> bool:
        last_at, block_bytes = max(self._progress_at, self._put_off_at), self._geometry.block_bytes
        return stalled(self._sources.values(), last_at, self._unverified_bytes, block_bytes, now)

    def _helped(self, event: Event) -> bool:
        """Return whether somebody could bring what is missing until this event."""
        if self._asking.discovering:
            return True
        if isinstance(event, BlockVerified) and self.is_open(event.source, event.request):
            return True
        return self._asking.in_flight.waits or self._holdings.any_of(self.missing)
