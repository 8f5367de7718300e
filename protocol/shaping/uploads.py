"""Who is sent to next: slots, fair shares, limits.

What peers ask for waits here and is handed out in slices. A peer counts once, however many rooms
it is met in and lanes it asks over. At most ``slots`` peers are served at a time, fewer under a
low limit, or each would wait so long for its next block that it took this node for hung. Others
wait to be called, in the order in which they came: while some do, whoever has had
``UPLOAD_TURN_S`` makes room. Whoever is called and doesn't come loses its place.

Among those served, blocks are shared by deficit round robin (Shreedhar and Varghese 1995): whose
turn it is may be sent a slice, more if its last one was short, and then it is the next one's turn.
Two slices of a peer are under way, of two requests: while one is on the wire the other waits
behind it. Only with no limit and nobody else there is a request handed out whole.

``UPLOAD_SLICES_AT_ONCE`` are on the line, over all peers, so that each is whole soon and can be
passed on; those that go so slowly that it must be their taker's line that is full don't count.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from operator import attrgetter

from dreamer.protocol.limits import (
    BLOCK_BYTES,
    UPLOAD_CALLED_S,
    UPLOAD_SLICE_BLOCKS,
    UPLOAD_SLICES_AT_ONCE,
    UPLOAD_SLICES_UNDER_WAY,
    UPLOAD_SLOW_BYTES_S,
    UPLOAD_TURN_S,
    UPLOAD_TURNED_AWAY_S,
    UPLOAD_WAIT_MAX_S,
)
from dreamer.protocol.shaping.meters import Buckets
from dreamer.protocol.swarm.grain import blocks_for, slots_for
from dreamer.protocol.swarm.rate import RateMeter
from dreamer.protocol.swarm.vocabulary import Lane

Key = tuple[int, int]
"""A request: the number of its link, and its own."""


Way = tuple[Lane, bool]
"""What limits look at: the lane, and whether it runs within the site."""


@dataclass(slots=True)
class Upload:
    """One request. ``left``: its blocks that were not handed out yet, in order."""

    key: Key
    peer: Hashable
    way: Way
    left: list[int]
    under_way: bool = False

    @property
    def waits(self) -> bool:
        """Whether a slice of it could be handed out."""
        return bool(self.left) and not self.under_way


@dataclass(slots=True)
class Asker:
    """A peer that is served; ``deficit`` is how many blocks are due to it before a new slice.

    ``place``: its turn comes before those of higher ones. ``slices`` of it are under way, and
    ``waiting`` of its requests could be handed another one.
    """

    peer: Hashable
    since: float
    place: int
    uploads: dict[Key, Upload] = field(default_factory=dict)
    deficit: int = 0
    slices: int = 0
    waiting: int = 0


@dataclass(slots=True)
class Waiting:
    """A peer that found no slot at ``since``; it is kept in mind until ``until``."""

    since: float
    until: float
    called: bool = False
    """Whether it was told that a slot is free for it."""


@dataclass(frozen=True)
class Slice:
    """Send these blocks of a request now."""

    key: Key
    blocks: tuple[int, ...]


class Uploads:
    """What all peers of a node have asked for. Times are steady seconds."""

    def __init__(self, slots: int, buckets: Buckets, block_bytes: int = BLOCK_BYTES) -> None:
        self._slots = slots_for(slots, block_bytes)
        self._buckets = buckets
        self._block_bytes = block_bytes
        self._slice_blocks = blocks_for(UPLOAD_SLICE_BLOCKS, block_bytes)
        self._askers: dict[Hashable, Asker] = {}
        self._of_key: dict[Key, Upload] = {}
        # Counted as things change: a busy node is asked for its next slice for every block.
        self._due: dict[Hashable, Asker] = {}
        self._waits: dict[Way, int] = {}
        self._places = count()
        # Until when a slice counts as one of those that share the line.
        self._on_line: dict[Key, float] = {}
        self._meter = RateMeter()
        # Those that were told to come back, and when the first of them is forgotten.
        self._waiting: dict[Hashable, Waiting] = {}
        self._forget_at = float("inf")
        self._called = 0

    def admits(self, peer: Hashable, lane: Lane, lan: bool, now: float) -> bool:
        """Return whether a peer may ask for something now; False: it is to come back."""
        self._forget_gone(now)
        asker = self._askers.get(peer)
        others = len(self._askers) - (asker is not None)
        slots = self._slots_at(self._buckets.rate(lane, lan))
        if asker is not None:
            # Whoever waits is told as soon as this turn ends.
            if now < asker.since + UPLOAD_TURN_S or others + 1 < slots or not self._others_wait:
                return True
            self._turn_away(peer, now)
            return False
        waiting = self._waiting.get(peer)
        before = len(self._waiting) if waiting is None else self._before(waiting.since)
        if others + before < slots:
            self._wait_no_more(peer)
            return True
        self._turn_away(peer, now)
        return False

    @property
    def _others_wait(self) -> bool:
        # Who was turned away and is still sent what it asked for before is not out yet.
        return any(peer not in self._askers for peer in self._waiting)

    def _turn_away(self, peer: Hashable, now: float) -> None:
        waiting = self._waiting.get(peer)
        if waiting is None:
            waiting = self._waiting[peer] = Waiting(now, now)
        self._keep(waiting, now + UPLOAD_TURNED_AWAY_S, called=False)

    def slot_free(self, now: float) -> bool:
        """Return whether there is a slot for one of those that were turned away."""
        if not self._waiting:
            return False
        # First those that were called in vain: they hold the slots that this is about.
        self._forget_gone(now)
        return bool(self._waiting) and len(self._askers) + self._called < self._slots

    def calls(self, peer: Hashable, lane: Lane, lan: bool, now: float) -> bool:
        """Return whether to tell a peer that was turned away to come now, for a slot is free.

        It has a moment to come; then it is the next one's. To be asked in the order in which
        they were turned away.
        """
        waiting = self._waiting.get(peer)
        if peer in self._askers or waiting is None or waiting.called:
            return False
        if len(self._askers) + self._called >= self._slots_at(self._buckets.rate(lane, lan)):
            return False
        self._keep(waiting, now + UPLOAD_CALLED_S, called=True)
        return True

    def _before(self, since: float) -> int:
        return sum(one.since < since for one in self._waiting.values())

    def _keep(self, waiting: Waiting, until: float, *, called: bool) -> None:
        self._called += called - waiting.called
        waiting.until, waiting.called = until, called
        self._forget_at = min(self._forget_at, until)

    def _wait_no_more(self, peer: Hashable) -> None:
        waiting = self._waiting.pop(peer, None)
        if waiting is not None:
            self._called -= waiting.called

    def _slots_at(self, bytes_s: float) -> int:
        affordable = bytes_s * UPLOAD_WAIT_MAX_S / self._block_bytes
        return self._slots if affordable >= self._slots else max(1, int(affordable))

    def _forget_gone(self, now: float) -> None:
        if now < self._forget_at:
            return
        for peer in [peer for peer, one in self._waiting.items() if one.until <= now]:
            self._wait_no_more(peer)
        left = [one.until for one in self._waiting.values()]
        self._forget_at = min(left, default=float("inf"))

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
        """Queue a request of a peer that was admitted."""
        upload = self._of_key[key] = Upload(key, peer, (lane, lan), [])
        asker = self._askers.get(peer)
        if asker is None:
            asker = self._askers[peer] = Asker(peer, now, next(self._places))
        asker.uploads[key] = upload
        self._set(asker, upload, list(blocks), under_way=False)

    def stop(self, key: Key, block: int | None) -> bool:
        """Leave out a block of a request, or with None the rest; True if nothing is left of it.

        What is under way already is for its carrier to stop.
        """
        upload = self._of_key.get(key)
        if upload is None:
            return False
        left = [one for one in upload.left if block is not None and one != block]
        self._set(self._askers[upload.peer], upload, left, upload.under_way)
        return self._ended(upload)

    def sent(self, key: Key) -> bool:
        """Note that a slice has been sent; return True if nothing is left of its request."""
        upload = self._of_key.get(key)
        if upload is None:
            return False
        self._set(self._askers[upload.peer], upload, upload.left, under_way=False)
        return self._ended(upload)

    def forget(self, key: Key) -> None:
        """Drop a request, whatever is left of it."""
        if upload := self._of_key.get(key):
            self._set(self._askers[upload.peer], upload, [], under_way=False)
            self._ended(upload)

    def next(self, now: float) -> Iterator[Slice]:
        """Yield what to send now; it counts as under way until ``sent``."""
        if not self._due:
            return
        # What a limit holds back stays so for this moment: it is not asked again for each peer.
        held_back: set[Way] = set()
        for key in [key for key, until in self._on_line.items() if until <= now]:
            del self._on_line[key]
        given = not self._line_full
        while given and self._due:
            given = False
            for asker in sorted(self._due.values(), key=attrgetter("place")):
                if self._line_full or self._waits.keys() <= held_back:
                    return
                # Whoever takes a slice may also stop what is asked for.
                due = self._due.get(asker.peer) is asker
                found = self._turn(asker, held_back, now) if due else None
                if found is not None:
                    given = True
                    # Its turn is over: it goes to the end of the line.
                    asker.place = next(self._places)
                    yield found

    @property
    def _line_full(self) -> bool:
        # A faster line than that of a usual taker is filled by more of them.
        most = max(UPLOAD_SLICES_AT_ONCE, int(self._meter.bytes_per_s / UPLOAD_SLOW_BYTES_S))
        return len(self._on_line) >= most

    def ready_at(self, now: float) -> float:
        """Return when time alone lets something go; infinity: it does not."""
        if self._due and self._line_full:
            return min(self._on_line.values())
        if not self._waits:
            return float("inf")
        ready = (self._buckets.ready_at(*way, now) for way in self._waits)
        return min((at for at in ready if at > now), default=float("inf"))

    def _turn(self, asker: Asker, held_back: set[Way], now: float) -> Slice | None:
        for upload in asker.uploads.values():
            if upload.waits and upload.way not in held_back:
                room = self._buckets.level(*upload.way, now)
                if room > 0:
                    return self._cut(asker, upload, room, now)
                held_back.add(upload.way)
        return None

    def _cut(self, asker: Asker, upload: Upload, room: float, now: float) -> Slice:
        size = len(upload.left)
        if len(self._askers) > 1 or room < float("inf"):
            asker.deficit = min(asker.deficit + self._slice_blocks, 2 * self._slice_blocks)
            # What is granted may be overdrawn by less than a block, which is owed then.
            granted = int(min(max(room / self._block_bytes, 1), size))
            size = min(granted, asker.deficit)
            asker.deficit -= size
        blocks = tuple(upload.left[:size])
        self._set(asker, upload, upload.left[size:], under_way=True)
        size_bytes = size * self._block_bytes
        self._meter.add(size_bytes, now)
        # What was handed out whole, to one peer alone, keeps others waiting no longer than a turn.
        turn_bytes = min(size, self._slice_blocks) * self._block_bytes
        self._on_line[upload.key] = now + turn_bytes / UPLOAD_SLOW_BYTES_S
        self._buckets.take(*upload.way, size_bytes, now)
        return Slice(upload.key, blocks)

    def _set(self, asker: Asker, upload: Upload, left: list[int], under_way: bool) -> None:
        """Note what is left of a request and whether some of it is under way."""
        waited = upload.waits
        asker.slices += under_way - upload.under_way
        upload.left, upload.under_way = left, under_way
        if not under_way:
            self._on_line.pop(upload.key, None)
        if change := upload.waits - waited:
            asker.waiting += change
            self._waits[upload.way] = self._waits.get(upload.way, 0) + change
            if not self._waits[upload.way]:
                del self._waits[upload.way]
        if asker.waiting and asker.slices < UPLOAD_SLICES_UNDER_WAY:
            self._due[asker.peer] = asker
        else:
            self._due.pop(asker.peer, None)

    def _ended(self, upload: Upload) -> bool:
        if upload.left or upload.under_way:
            return False
        del self._of_key[upload.key]
        asker = self._askers[upload.peer]
        del asker.uploads[upload.key]
        if not asker.uploads:
            del self._askers[upload.peer]
        return True
