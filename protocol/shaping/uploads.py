"""Who is sent to next: slots, fair shares, limits.

What peers ask for waits here and is handed out in slices. A peer counts once, however many rooms
it is met in and lanes it asks over. At most ``slots`` peers are served at a time, fewer under a
low limit, or each would wait so long for its next block that it took this node for hung. Others
are told to come back; when some do, whoever has had ``UPLOAD_TURN_S`` is told so, too.

Among those served, blocks are shared by deficit round robin (Shreedhar and Varghese 1995): whose
turn it is may be sent a slice, more if its last one was short, and then it is the next one's turn.
Two slices of a peer are under way, of two requests: while one is on the wire the other waits
behind it. Only with no limit and nobody else there is a request handed out whole.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass, field

from dreamer.protocol.limits import (
    BLOCK_BYTES,
    UPLOAD_SLICE_BLOCKS,
    UPLOAD_SLICES_UNDER_WAY,
    UPLOAD_TURN_S,
    UPLOAD_TURNED_AWAY_S,
    UPLOAD_WAIT_MAX_S,
)
from dreamer.protocol.shaping.meters import Buckets
from dreamer.protocol.swarm.vocabulary import Lane

Key = tuple[int, int]
"""A request: the number of its link, and its own."""


@dataclass
class Upload:
    """One request. ``left``: its blocks that were not handed out yet, in order."""

    key: Key
    peer: Hashable
    lane: Lane
    lan: bool
    left: list[int]
    under_way: bool = False


@dataclass
class Asker:
    """A peer that is served; ``deficit`` is how many blocks are due to it before a new slice."""

    since: float
    uploads: dict[Key, Upload] = field(default_factory=dict)
    deficit: int = 0

    @property
    def slices(self) -> int:
        """How many slices of it are under way."""
        return sum(one.under_way for one in self.uploads.values())


@dataclass(frozen=True)
class Slice:
    """Send these blocks of a request now."""

    key: Key
    blocks: tuple[int, ...]


class Uploads:
    """What all peers of a node have asked for. Times are steady seconds."""

    def __init__(self, slots: int, buckets: Buckets) -> None:
        self._slots = slots
        self._buckets = buckets
        self._askers: dict[Hashable, Asker] = {}
        self._of_key: dict[Key, Upload] = {}
        # When each that was told to come back was told so first, and last.
        self._waiting: dict[Hashable, tuple[float, float]] = {}

    def admits(self, peer: Hashable, lane: Lane, lan: bool, now: float) -> bool:
        """Return whether a peer may ask for something now; False: it is to come back."""
        self._forget_gone(now)
        asker = self._askers.get(peer)
        others = len(self._askers) - (asker is not None)
        slots = self._slots_at(self._buckets.rate(lane, lan))
        if asker is not None:
            # Whoever waits has come back just now, so it will be there when this turn ends.
            had_turn = now >= asker.since + UPLOAD_TURN_S and others + 1 >= slots
            return not (had_turn and self._waiting)
        since, _ = self._waiting.get(peer, (now, now))
        before = sum(first < since for first, _ in self._waiting.values())
        if others + before < slots:
            self._waiting.pop(peer, None)
            return True
        self._waiting[peer] = (since, now)
        return False

    def _slots_at(self, bytes_s: float) -> int:
        affordable = bytes_s * UPLOAD_WAIT_MAX_S / BLOCK_BYTES
        return self._slots if affordable >= self._slots else max(1, int(affordable))

    def _forget_gone(self, now: float) -> None:
        kept = self._waiting.items()
        self._waiting = {one: at for one, at in kept if now < at[1] + UPLOAD_TURNED_AWAY_S}

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
        upload = self._of_key[key] = Upload(key, peer, lane, lan, list(blocks))
        self._askers.setdefault(peer, Asker(now)).uploads[key] = upload

    def stop(self, key: Key, block: int | None) -> bool:
        """Leave out a block of a request, or with None the rest; True if nothing is left of it.

        What is under way already is for its carrier to stop.
        """
        upload = self._of_key.get(key)
        if upload is None:
            return False
        upload.left = [one for one in upload.left if block is not None and one != block]
        return self._ended(upload)

    def sent(self, key: Key) -> bool:
        """Note that a slice has been sent; return True if nothing is left of its request."""
        upload = self._of_key.get(key)
        if upload is None:
            return False
        upload.under_way = False
        return self._ended(upload)

    def forget(self, key: Key) -> None:
        """Drop a request, whatever is left of it."""
        if upload := self._of_key.get(key):
            upload.left, upload.under_way = [], False
            self._ended(upload)

    def next(self, now: float) -> Iterator[Slice]:
        """Yield what to send now; it counts as under way until ``sent``."""
        given = True
        while given:
            given = False
            for peer, asker in list(self._askers.items()):
                found = self._turn(asker, now) if peer in self._askers else None
                if found is not None:
                    given = True
                    # Its turn is over: it goes to the end of the line.
                    self._askers[peer] = self._askers.pop(peer)
                    yield found

    def ready_at(self, now: float) -> float:
        """Return when a limit lets something go that waits only for it; infinity: nothing does."""
        times = [
            self._buckets.ready_at(one.lane, one.lan, now)
            for one in self._of_key.values()
            if one.left and not one.under_way
        ]
        return min((at for at in times if at > now), default=float("inf"))

    def _turn(self, asker: Asker, now: float) -> Slice | None:
        if asker.slices >= UPLOAD_SLICES_UNDER_WAY:
            return None
        for upload in asker.uploads.values():
            if upload.left and not upload.under_way:
                room = self._buckets.level(upload.lane, upload.lan, now)
                if room > 0:
                    return self._cut(asker, upload, room, now)
        return None

    def _cut(self, asker: Asker, upload: Upload, room: float, now: float) -> Slice:
        count = len(upload.left)
        if len(self._askers) > 1 or room < float("inf"):
            asker.deficit = min(asker.deficit + UPLOAD_SLICE_BLOCKS, 2 * UPLOAD_SLICE_BLOCKS)
            # What is granted may be overdrawn by less than a block, which is owed then.
            granted = int(min(max(room / BLOCK_BYTES, 1), count))
            count = min(granted, asker.deficit)
            asker.deficit -= count
        blocks, upload.left = tuple(upload.left[:count]), upload.left[count:]
        upload.under_way = True
        self._buckets.take(upload.lane, upload.lan, count * BLOCK_BYTES, now)
        return Slice(upload.key, blocks)

    def _ended(self, upload: Upload) -> bool:
        if upload.left or upload.under_way:
            return False
        del self._of_key[upload.key]
        asker = self._askers[upload.peer]
        del asker.uploads[upload.key]
        if not asker.uploads:
            del self._askers[upload.peer]
        return True
