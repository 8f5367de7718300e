"""Those who pull the same model at the same time, and what each is to fetch for all of them.

A block that only the origin has, or only members that are whole, is fetched from there by one node,
whose share it is (``rendezvous.py``); the others get it from that node. So a crowd costs the origin
about one copy, and a single seed sends each block once before it sends any twice.

Nobody waits for ever: the share of a node that gets nothing done for ``CROWD_PATIENCE_S`` is
divided among the others, and who is through with its own helps one that is slow.

Of a large crowd nobody knows more than a part. There only those divide the blocks that a tracker
has named to everybody (``committee.py``), and the others wait for them (``delegation.py``).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from dreamer.protocol.limits import (
    BLOCK_BYTES,
    CROWD_HELP_INTERVAL_S,
    CROWD_HELP_LEAST_BLOCKS,
    CROWD_HELP_MIN_BLOCKS,
    CROWD_HELP_OVER_S,
    CROWD_LOOK_S,
    CROWD_PATIENCE_BLOCKS,
    CROWD_PATIENCE_MAX_S,
    CROWD_PATIENCE_S,
    CROWD_QUIET_S,
    CROWD_UNSEEN_S,
)
from dreamer.protocol.swarm import bitfield
from dreamer.protocol.swarm.delegation import Delegation
from dreamer.protocol.swarm.grain import blocks_for
from dreamer.protocol.swarm.rate import RateMeter
from dreamer.protocol.swarm.rendezvous import Shares
from dreamer.protocol.swarm.vocabulary import SourceId


@dataclass(slots=True)
class Downloader:
    """Another node that pulls the model. ``progress_at`` is when its share last grew."""

    progress_at: float
    linked: bool = False
    held: int = 0
    claimed: int = 0
    """What it has ever said to hold: a block that it says it has, and has not, counts once."""
    meter: RateMeter = field(default_factory=RateMeter)

    def progressed(self, size_bytes: int, now: float) -> None:
        """Note that its share has grown."""
        self.meter.add(size_bytes, now)
        self.progress_at = now

    def seconds_per_block(self, block_bytes: int, now: float) -> float:
        """Return how long a block of its share takes it, judging by what it has said."""
        rate = self.meter.bytes_per_s
        usual = block_bytes / rate if rate else 0.0
        # What it has not said yet may be on its way: a moment's silence says nothing.
        quiet = now - self.progress_at
        return max(usual, quiet if quiet > CROWD_QUIET_S else 0.0)


class Crowd:
    """The downloaders of one model as one of them, ``own``, knows them."""

    def __init__(self, block_count: int, own: SourceId, block_bytes: int = BLOCK_BYTES) -> None:
        self._own = own
        self._block_bytes = block_bytes
        self._help_min_blocks = max(
            blocks_for(CROWD_HELP_MIN_BLOCKS, block_bytes), CROWD_HELP_LEAST_BLOCKS
        )
        self._me = Downloader(float("-inf"), linked=True)
        self._others: dict[SourceId, Downloader] = {}
        self._seen: dict[SourceId, float] = {}
        self._shares = Shares(block_count)
        self._shares.add(own)
        self._delegation = Delegation(own)
        self._full = bitfield.full(block_count)
        self._held: int | None = 0
        self._no_help_until = float("-inf")
        self._patient_until = float("-inf")
        self._forsaken = 0
        """How often shares had to be taken from those that brought nothing."""

    @property
    def alone(self) -> bool:
        """Whether nobody else is known to pull the model."""
        return not self._others and not self._delegation.stands

    @property
    def delegates(self) -> bool:
        """Whether a committee fetches for all, be this node in it or not."""
        return self._delegation.stands

    @property
    def deserted(self) -> bool:
        """Whether this node waits for a committee no more that has brought nothing for long."""
        return self._delegation.failing

    @property
    def size(self) -> int:
        """How many pull the model, this node included."""
        return 1 + len(self._others)

    @property
    def share(self) -> int:
        """The blocks that this node is to fetch for all."""
        return self._shares.of(self._own)

    @property
    def held(self) -> int:
        """The blocks that at least one of the others has."""
        if self._held is None:
            self._held = 0
            for other in self._others.values():
                self._held |= other.held
        return self._held

    def seen(
        self, nodes: Iterable[SourceId], now: float, committee: Sequence[SourceId] | None = None
    ) -> None:
        """Take the names of all that hold the model or pull it, and are not linked.

        What they hold is known only once they are linked; until then they count as downloaders,
        so that two nodes whose link is still coming up don't fetch the same. With a ``committee``
        nobody else counts.
        """
        if self._delegation.name(committee, now):
            self._divide_anew(now)
        divides = self._delegation.divides
        named = (node for node in nodes if node != self._own and divides(node))
        # Named again and again, a node that can't be linked must not gain time by it.
        self._seen = {node: self._seen.get(node, now) for node in named}
        for node, since in self._seen.items():
            if node not in self._others and now < since + CROWD_PATIENCE_S:
                self._others[node] = Downloader(since)
                self._patient_until = min(self._patient_until, since + CROWD_PATIENCE_S)
                self._shares.add(node)
        for node, other in list(self._others.items()):
            if not other.linked and node not in self._seen:
                self._forget(node)

    def _divide_anew(self, now: float) -> None:
        """Have those divide the blocks that are to, now that others are."""
        for node in self._shares.nodes:
            if not self._delegation.divides(node):
                self._shares.discard(node)
        for node, other in self._others.items():
            at_work = now < other.progress_at + CROWD_PATIENCE_S
            if at_work and self._delegation.divides(node):
                self._shares.add(node)
        if self._delegation.divides(self._own):
            self._shares.add(self._own)

    def holds(self, node: SourceId, blocks: int, fetching: bool, now: float) -> None:
        """Take a linked member's word on what it holds and whether it is after the rest."""
        if not fetching or blocks == self._full:
            # Its time as an unknown is over: said to be whole or idle, it has no share.
            self._seen[node] = float("-inf")
            self._forget(node)
            return
        other = self._others.get(node)
        if other is None:
            other = self._others[node] = Downloader(now)
        if not other.linked:
            other.linked, other.progress_at = True, now
        gained, new = blocks & ~other.held, blocks & ~other.claimed
        other.claimed |= blocks
        if done := new & self._shares.of(node):
            other.progressed(done.bit_count() * self._block_bytes, now)
        else:
            self._take_back(node, other, now)
        fresh = gained & ~self.held
        if other.held & ~blocks:
            self._held = None
        other.held = blocks
        if fresh:
            self._noted(fresh, now)

    def gains(self, node: SourceId, blocks: int, now: float) -> None:
        """Take a linked downloader's word on what it has now and had not before, and not all."""
        other = self._others.get(node)
        if other is None or not other.linked:
            self.holds(node, blocks | (other.held if other is not None else 0), True, now)
            return
        held = self._held if self._held is not None else self.held
        new, fresh = blocks & ~other.claimed, blocks & ~held
        other.held |= blocks
        other.claimed |= blocks
        if done := new & self._shares.of(node):
            other.progressed(done.bit_count() * self._block_bytes, now)
        elif now < other.progress_at + CROWD_PATIENCE_S and node not in self._shares:
            self._take_back(node, other, now)
        if fresh:
            self._noted(fresh, now)

    def _take_back(self, node: SourceId, other: Downloader, now: float) -> None:
        """Give one its share again that may have one and is at work."""
        if now < other.progress_at + CROWD_PATIENCE_S and self._delegation.divides(node):
            self._shares.add(node)

    def _noted(self, fresh: int, now: float) -> None:
        """Take note of blocks that some downloader has now, and none had before."""
        if self._held is not None:
            self._held |= fresh
        share_of = self._shares.each
        for node, other in self._others.items():
            # What one that isn't linked has done shows in what others got from it.
            if not other.linked and fresh & share_of.get(node, 0):
                other.progress_at = now
        if self._delegation.news(now):
            self._divide_anew(now)

    def lost(self, node: SourceId) -> None:
        """Do without a member whose link is gone."""
        self._forget(node)

    def begin(self, now: float) -> None:
        """Note that this node may fetch its share from now on."""
        self._me.progress_at = now

    def took(self, block: int, now: float) -> None:
        """Note that a block has come to this node."""
        if self._shares.of(self._own) >> block & 1:
            self._me.progressed(self._block_bytes, now)

    def tick(self, missing: int, now: float) -> None:
        """Divide the shares of those that have got nothing done for too long.

        Where a block takes this node long itself, the others get the time of some.
        """
        if now >= self._patient_until:
            self._lose_patience(missing, now)
        if self._delegation.tick(bool(missing & ~self.held), now):
            self._divide_anew(now)

    def _lose_patience(self, missing: int, now: float) -> None:
        if not missing & ~self.held:
            # Nobody need fetch anything for all: whoever has done its part is not to be blamed.
            self._patient_until = now + CROWD_LOOK_S
            return
        at_work = missing & self._shares.of(self._own)
        asked_at = now if at_work else self._me.progress_at
        own_s = self._me.seconds_per_block(self._block_bytes, asked_at)
        own_s = min(own_s, CROWD_PATIENCE_MAX_S)
        patience_s = max(CROWD_PATIENCE_S, CROWD_PATIENCE_BLOCKS * own_s)
        unseen_s = patience_s
        if self.delegates:
            # What one that isn't linked has done shows only once it has been passed on. Of those
            # who inherit from one that brings nothing, each has less time.
            unseen_s = max(CROWD_UNSEEN_S * 0.5**self._forsaken, CROWD_PATIENCE_S)
        lost = False
        for node, other in self._others.items():
            late = now >= other.progress_at + (patience_s if other.linked else unseen_s)
            if late and node in self._shares:
                # Whoever is through with its share makes no progress either.
                lost = lost or bool(self._shares.of(node) & missing & ~self.held)
                self._shares.discard(node)
        self._forsaken += lost
        # Progress only makes it later, so nobody need be looked at until then. How long one has
        # changes, but not within moments.
        ends = [other.progress_at + CROWD_PATIENCE_S for other in self._others.values()]
        soonest = now + CROWD_LOOK_S
        self._patient_until = max(min([at for at in ends if at > now], default=now), soonest)

    def due(self, fresh: int, now: float, help_over_s: float = CROWD_HELP_OVER_S) -> int:
        """Return those of ``fresh`` that this node is to fetch next for all of them.

        ``fresh`` holds what none of the others has: this node's own share of it, else the far end
        of a node's that needs longer than ``help_over_s`` for what it has left.
        """
        if mine := fresh & self.share:
            return mine
        if not fresh or now < self._no_help_until or self._own not in self._shares:
            return 0
        helped = self._help(fresh, now, help_over_s)
        if not helped:
            self._no_help_until = now + CROWD_HELP_INTERVAL_S
        return helped

    def _help(self, fresh: int, now: float, over_s: float) -> int:
        slowest: tuple[float, SourceId, int] = (over_s, self._own, 0)
        for node, other in self._others.items():
            left = fresh & self._shares.of(node)
            if other.linked and left.bit_count() >= self._help_min_blocks:
                wait = left.bit_count() * other.seconds_per_block(self._block_bytes, now)
                slowest = max(slowest, (wait, node, left))
        _, slow, left = slowest
        # Each of those that may help has a part of its own, or all would fetch the same.
        helpers = [node for node in self._shares.nodes if node != slow]
        return self._shares.best_for(self._own, helpers, _upper_half(left))

    def _forget(self, node: SourceId) -> None:
        if self._others.pop(node, None) is not None:
            self._shares.discard(node)
            self._held = None


def _upper_half(blocks: int) -> int:
    """Return the higher half of a set: its owner begins at the other end."""
    keep = blocks.bit_count() // 2
    low, high = 0, blocks.bit_length()
    while low < high:
        middle = (low + high) // 2
        if (blocks >> middle).bit_count() > keep:
            low = middle + 1
        else:
            high = middle
    return blocks >> low << low
