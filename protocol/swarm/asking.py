"""What to ask of whom: the sources of one download, and the blocks nobody was asked for yet.

Each source is kept busy with about two seconds of its measured rate. From one that only has part of
the model, the rarest blocks come first; from the origin and from members that are whole, this
node's own share of what none of the other downloaders has (``crowd.py``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Protocol

from dreamer.protocol.limits import BLOCK_BYTES, PICK_ALIGN_BLOCKS, SEED_HELP_OVER_S
from dreamer.protocol.swarm import bitfield
from dreamer.protocol.swarm.availability import Availability
from dreamer.protocol.swarm.crowd import Crowd
from dreamer.protocol.swarm.endgame import Debts, debts, relief, takeover
from dreamer.protocol.swarm.grain import blocks_for, sweep_s
from dreamer.protocol.swarm.inflight import InFlight
from dreamer.protocol.swarm.picker import pick_run
from dreamer.protocol.swarm.source import Source
from dreamer.protocol.swarm.vocabulary import Cancel, Command, Fetch, Lane, SourceId

if TYPE_CHECKING:
    from random import Random


AHEAD_AMPLE_BLOCKS = 64
"""With room for so many blocks it does not matter who is asked first."""


class DownPace(Protocol):
    """Limits of what this node takes in, over all its pulls."""

    def grant(self, lane: Lane, lan: bool, now: float) -> float:
        """Return how many bytes may be asked for on a lane; 0 or less: none at present."""
        ...

    def take(self, lane: Lane, lan: bool, size_bytes: int, now: float) -> None:
        """Count bytes that were asked for; less than 0: they will not come after all."""
        ...


class Unlimited:
    """No limit at all."""

    def grant(self, lane: Lane, lan: bool, now: float) -> float:
        """Return that anything goes."""
        return float("inf")

    def take(self, lane: Lane, lan: bool, size_bytes: int, now: float) -> None:
        """Count nothing."""


class Asking:
    """The sources of one download by name, and what each is asked for."""

    def __init__(
        self,
        missing: int,
        everything: int,
        crowd: Crowd,
        numbers: Iterator[int],
        rng: Random,
        block_bytes: int = BLOCK_BYTES,
    ) -> None:
        self.sources: dict[SourceId, Source] = {}
        self.unasked = missing
        self.availability = Availability()
        self.pace: DownPace = Unlimited()
        self.discovering = True
        self.origin_open_at = float("inf")
        """When the origin may be asked for anything, since peers bring nothing."""
        self._everything = everything
        self._crowd = crowd
        self._numbers = numbers
        self._rng = rng
        self._block_bytes = block_bytes
        self.in_flight = InFlight(block_bytes)
        self.sweep_s = sweep_s(block_bytes)
        self._align = blocks_for(PICK_ALIGN_BLOCKS, block_bytes)
        self.full_until = float("-inf")
        """Until when nothing is asked for, unless what was asked for comes or is called off."""
        self._room = 0
        """How many blocks more may be asked for by this look, of all sources together."""
        self._copied = 0
        self._owed: Debts | None = None
        self._touched: dict[SourceId, None] = {}
        self._all_touched = False
        self._swept_at = float("-inf")
        self._sweeping = False

    # What is known of the sources

    def hold(self, source: Source, blocks: int) -> None:
        """Take note of what a source holds now."""
        if source.blocks & ~blocks:
            # What it no longer has may be for another to bring, even the origin.
            self.touch_all()
        source.blocks = blocks
        self.recount(source)
        self.touch(source)

    def gain(self, source: Source, blocks: int) -> None:
        """Take note of blocks that a source has now and had not before."""
        source.blocks |= blocks
        if source.strikes or not source.usable or source.lane is Lane.ORIGIN:
            self.recount(source)
        else:
            self.availability.add(blocks)
            source.counted |= blocks
        if blocks & self.unasked or not self.unasked:
            self._touched[source.id] = None

    def recount(self, source: Source) -> None:
        """Count what a source holds as available, or not while it would not come.

        One that has hung still counts if it is whole: it may be the only one, and what only it
        has is asked of the origin soon enough. Of a downloader that hangs others have copies.
        """
        gone = not source.usable or (source.hung and source.blocks != self._everything)
        counts = 0 if gone or source.lane is Lane.ORIGIN else source.blocks
        if lost := source.counted & ~counts:
            self.availability.remove(lost)
        self.availability.add(counts & ~source.counted)
        source.counted = counts

    def set_usable(self, source: Source, lane: Lane, usable: bool, lan: bool, now: float) -> None:
        """Go on with a source over another lane; one that can't be used holds nothing for us."""
        self._give_back(source, source.owed, now)
        self.freed()
        pending = source.pending()
        source.move(lane, usable, lan)
        self.recount(source)
        self.release(pending)

    def freed(self) -> None:
        """Take note that less is under way than before: more may be asked for."""
        self.full_until = float("-inf")

    def touch(self, source: Source) -> None:
        """Look soon whether there is something to ask of a source."""
        self._touched[source.id] = None

    def touch_all(self) -> None:
        """Look soon at every source."""
        self._all_touched = True

    def release(self, blocks: int, besides: Source | None = None) -> None:
        """Make blocks askable again, unless still asked of another source."""
        if not blocks:
            return
        if blocks & self._copied:
            for source in self.sources.values():
                if source is not besides and source.requests:
                    blocks &= ~source.pending()
        self.unasked |= blocks
        self.touch_all()

    def drop_requests(self, source: Source, now: float) -> list[Command]:
        """Wait for nothing more from a source; its blocks can be asked of others."""
        self._give_back(source, source.owed, now)
        self.freed()
        commands: list[Command] = [Cancel(source.id, one, None) for one in source.requests]
        self.release(source.pending(), besides=source)
        source.forget_requests()
        return commands

    def void(self, source: Source, blocks: int, now: float) -> None:
        """Wait for some blocks no more that a source will not send."""
        self.freed()
        void = source.pending() & blocks
        for request, block in source.requests_for(void):
            source.settle(request, block)
            self._give_back(source, 1, now)
        self.release(void)

    def end_request(self, source: Source, request: int, now: float) -> int:
        """Wait no more for a request that was refused; return what had not come of it."""
        self.freed()
        left = source.end(request)
        self._give_back(source, left.bit_count(), now)
        self.release(left)
        return left

    def cancel_copies(self, blocks: int, *, anywhere: bool) -> list[Command]:
        """Call off blocks that are here now wherever else they were asked for.

        ``anywhere``: they may have been asked for though they are not known as copied.
        """
        self.unasked &= ~blocks
        if not anywhere:
            blocks &= self._copied
        if not blocks:
            return []
        self._copied &= ~blocks
        self.freed()
        commands: list[Command] = []
        for source in self.sources.values():
            for request, block in source.requests_for(blocks):
                source.settle(request, block)
                commands.append(Cancel(source.id, request, block))
            if commands:
                self.touch(source)
        return commands

    def leave_to_others(self, now: float) -> list[Command]:
        """Call off what turns out to be the share of others, who have just been heard of.

        What is in the middle of its way, the first block of a source's, is let come.
        """
        commands: list[Command] = []
        theirs = ~self._crowd.share & ~self._crowd.held
        for source in self.sources.values():
            if source.blocks != self._everything or not source.owed:
                continue
            first = next(iter(source.requests.values()))
            commands += self._move(source, source.pending() & theirs & ~(first & -first), now)
        return commands

    # Asking

    def schedule(self, now: float) -> list[Command]:
        """Return what to ask for now, of the sources that something has happened to.

        Now and again all are looked at, also those that have only what others were asked for.
        """
        if now < self.full_until:
            return []
        swept = now >= self._swept_at + self.sweep_s
        if not (swept or self._all_touched or self._touched):
            return []
        self._room = room = self.in_flight.room(now)
        if room <= 0:
            # Of any that something happens to until then, the best is asked when there is room.
            self._all_touched, self.full_until = True, self.in_flight.frees_at
            return []
        self.full_until = float("-inf")
        self._sweeping = swept
        if swept:
            self._swept_at = now
        among = self._due(now)
        self._owed = None
        if room < AHEAD_AMPLE_BLOCKS and len(among) > 1:
            # Not all of them may be asked for something.
            among.sort(key=_best_first)
        commands: list[Command] = []
        for source in among:
            commands += self._fill(source, now)
            if self._room <= 0:
                self._all_touched = True
                if self.in_flight.room(now) <= 0:
                    self.full_until = self.in_flight.frees_at
                break
        return commands

    def _due(self, now: float) -> list[Source]:
        """Return those to look at: that something has happened to, and that may be asked now.

        Of these, but for a sweep, those that have something to give.
        """
        sources = self.sources
        among: Iterable[Source] = sources.values()
        if not (self._sweeping or self._all_touched):
            among = [sources[name] for name in self._touched if name in sources]
        self._all_touched = False
        self._touched.clear()
        # Of a sweep, or with nothing left to ask for, also those that could help others out.
        wanted = self._everything if self._sweeping or not self.unasked else self.unasked
        return [
            one for one in among if now >= one.resting_until and one.usable and one.blocks & wanted
        ]

    def _fill(self, source: Source, now: float) -> list[Command]:
        if not self.unasked & source.blocks and not self._may_take_over(source, now):
            return []
        commands: list[Command] = []
        while self._room > 0 and (limit := source.room_blocks(now, self._crowd.size)):
            granted = self.pace.grant(source.lane, source.lan, now)
            if granted <= 0:
                break
            # What is granted beyond a whole number of blocks is owed to the next time.
            limit = int(min(limit, self._room, max(granted // self._block_bytes, 1)))
            if not self._ask(source, limit, now, commands):
                break
        return commands

    def _may_take_over(self, source: Source, now: float) -> bool:
        """Return whether an idle source might be asked for what another one owes."""
        if source.requests or not (self._sweeping or not self.unasked):
            return False
        if self._owed is None:
            self._owed = debts(self.in_flight.owing.values(), now)
        return self._owed.relieve or not self.unasked

    def _ask(self, source: Source, limit: int, now: float, commands: list[Command]) -> bool:
        """Add what to ask of a source; False: there is nothing."""
        held = self.unasked & source.blocks
        if held and (run := self._pick(source, held, limit, now)):
            commands.append(self._fetch(source, *run, now))
            return True
        if not self._may_take_over(source, now) or self._spared(source):
            return False
        allowed = self._allowed(source, now)
        if self._owed is None:
            self._owed = debts(self.in_flight.owing.values(), now)
        choose = relief if self.unasked else takeover
        tail = choose(source, self._owed, allowed)
        if tail is None:
            return False
        first, count = tail[0] + max(tail[1] - limit, 0), min(tail[1], limit)
        if self.unasked:
            for owner in self.sources.values():
                commands += self._move(owner, bitfield.span(first, count), now)
        else:
            self._copied |= bitfield.span(first, count)
        commands.append(self._fetch(source, first, count, now))
        return True

    def _allowed(self, source: Source, now: float) -> int:
        """Return what a source may be asked for at all, whoever else was asked for it already."""
        if source.lane is not Lane.ORIGIN or now >= self.origin_open_at:
            return source.blocks
        return 0 if self.discovering else source.blocks & ~self.availability.any()

    def _spared(self, source: Source) -> bool:
        """Return whether a source is to be left to what only it has, for a whole crowd's sake."""
        whole = source.blocks == self._everything
        return whole and self._crowd.delegates and bool(self.unasked & ~self._crowd.held)

    def _pick(self, source: Source, held: int, limit: int, now: float) -> tuple[int, int] | None:
        allowed = held & self._allowed(source, now)
        if source.lane is Lane.ORIGIN:
            due = allowed if now >= self.origin_open_at else self._crowd.due(allowed, now)
        elif self._alone_with(source):
            # Nobody to divide the blocks with: in order, so that the file is hashed as it comes.
            due = allowed
        elif self._crowd.alone or source.blocks != self._everything:
            # Those that only part of the sources have are the rarest of what it can give.
            return pick_run(
                allowed, self.availability.rarest(allowed), limit, self._rng, self._align
            )
        else:
            due = self._due_of_whole(allowed, now)
        if not due:
            return None
        # From the low end, where helpers don't begin.
        first = bitfield.lowest(due)
        return first, bitfield.run_length(due, first, limit)

    def _alone_with(self, source: Source) -> bool:
        # A public swarm has others in it, whom nobody here hears of.
        whole = source.blocks == self._everything and source.lane is not Lane.TORRENT
        return whole and self._crowd.alone and not self.discovering

    def _due_of_whole(self, held: int, now: float) -> int:
        """Return what to ask of a member that is whole, while others pull the model, too.

        First what no downloader has and is this node's to fetch; then what others have, since
        this one may be faster; what is another's share only if there is nothing else to do.
        """
        fresh = held & ~self._crowd.held
        if due := self._crowd.due(fresh, now, SEED_HELP_OVER_S):
            return due
        if fresh and (self._crowd.delegates or any(one.requests for one in self.sources.values())):
            return 0
        return self.availability.rarest(held & ~fresh) or fresh

    def _move(self, owner: Source, blocks: int, now: float) -> Iterator[Command]:
        """Wait for some blocks no more, which then are to be asked of somebody else."""
        for request, block in owner.requests_for(blocks):
            self.freed()
            owner.settle(request, block)
            self._give_back(owner, 1, now)
            self.unasked |= 1 << block
            yield Cancel(owner.id, request, block)

    def _fetch(self, source: Source, first: int, count: int, now: float) -> Fetch:
        blocks = bitfield.span(first, count)
        self.unasked &= ~blocks
        self._owed = None
        self._room -= count
        request = next(self._numbers)
        source.asked(request, blocks, now)
        self.in_flight.asked(source, now)
        self.pace.take(source.lane, source.lan, count * self._block_bytes, now)
        return Fetch(source.id, request, first, count)

    def _give_back(self, source: Source, blocks: int, now: float) -> None:
        if blocks:
            self.pace.take(source.lane, source.lan, -blocks * self._block_bytes, now)


def _best_first(source: Source) -> tuple[int, float]:
    """Those that owe least come first, and of those the fastest."""
    return source.owed, -source.meter.bytes_per_s
