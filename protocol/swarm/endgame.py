"""Work that is moved: an idle source asks for what a slower one still owes.

At the end of a pull both are left to it: whoever delivers first wins and the other copy is
cancelled, so the end is as fast as the fastest source and not as slow as the slowest; at most
``ENDGAME_MAX_COPIES`` of a block are under way at a time. Before the end nothing is asked for
twice, but a source that has slowed, and owes more than it will bring in ``RELIEVE_OVER_S``, is
relieved of the tail.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from dreamer.protocol.limits import (
    ENDGAME_MAX_COPIES,
    ENDGAME_UNMEASURED_S,
    RELIEVE_OVER_S,
)
from dreamer.protocol.swarm.source import Source


@dataclass(frozen=True)
class Debt:
    """What one source owes, and how long it should take it to send all of that."""

    blocks: int
    wait_s: float


@dataclass(frozen=True)
class Debts:
    """What all sources owe at a moment; ``copied`` was asked of as many as it may be."""

    each: tuple[Debt, ...]
    copied: int
    longest_s: float = 0.0
    begun: int = 0
    """The first block of each source, of which part may have come."""

    @property
    def relieve(self) -> bool:
        """Whether there is one so slow that others may be given what it owes."""
        return self.longest_s > RELIEVE_OVER_S


def debts(sources: Iterable[Source], now: float) -> Debts:
    """Return what sources owe: taken stock of once, however many idle ones look for work."""
    owners = [source for source in sources if source.requests]
    each = tuple(Debt(owner.pending(), _remaining_s(owner, now)) for owner in owners)
    counted: list[int] = [0] * ENDGAME_MAX_COPIES
    for debt in each:
        blocks = debt.blocks
        for level in range(ENDGAME_MAX_COPIES):
            counted[level], blocks = counted[level] | blocks, counted[level] & blocks
    begun = 0
    for owner in owners:
        first = next(iter(owner.requests.values()))
        begun |= first & -first
    return Debts(each, counted[-1], max([debt.wait_s for debt in each], default=0.0), begun)


def takeover(idle: Source, owed: Debts, allowed: int) -> tuple[int, int] | None:
    """Return a run (first, count) that ``idle`` should ask for although another source owes it.

    None when it is not idle, or when nothing would come sooner through it. The run is the end of
    the slowest request, since requests are served from their beginning.
    """
    return _from_slowest(idle, owed, allowed & ~owed.copied, 0.0)


def relief(idle: Source, owed: Debts, allowed: int) -> tuple[int, int] | None:
    """Return a run that ``idle`` should be given instead of a source that has slowed.

    What is in the middle of its way is left to its owner unless the idle one has been measured:
    where all are slow, a block that is moved before it is whole, again and again, never comes.
    """
    if not idle.meter.bytes_per_s:
        allowed &= ~owed.begun
    return _from_slowest(idle, owed, allowed, RELIEVE_OVER_S)


def _from_slowest(idle: Source, owed: Debts, allowed: int, over_s: float) -> tuple[int, int] | None:
    if idle.requests or not allowed:
        return None
    own_wait = idle.seconds_for(1) if idle.meter.bytes_per_s else ENDGAME_UNMEASURED_S
    # It must bring it much sooner: where it is this node's own line that is full, a second copy
    # only takes from what the first one gets of it.
    least = own_wait + max(over_s, own_wait)
    if owed.longest_s <= least:
        return None
    best: tuple[float, int] | None = None
    for debt in owed.each:
        if debt.wait_s > least and (blocks := debt.blocks & allowed):
            best, least = (debt.wait_s, blocks), debt.wait_s
    return _tail(best[1], _worth(idle, *best)) if best else None


def _worth(idle: Source, wait: float, blocks: int) -> int:
    """Return how many of another's blocks the idle one would bring sooner, at most a request."""
    most = idle.request_blocks()
    if wait == float("inf") or not idle.meter.bytes_per_s:
        return most
    # Both at work, each at its rate, end together.
    count = blocks.bit_count()
    theirs, ours = count / wait, 1.0 / idle.seconds_for(1)
    return min(most, max(1, round(count * ours / (ours + theirs))))


def _remaining_s(owner: Source, now: float) -> float:
    if owner.stale(now):
        return float("inf")
    if not owner.meter.bytes_per_s:
        return 0.0  # it has only just been asked: give it a moment
    return owner.seconds_for(owner.owed)


def _tail(blocks: int, limit: int) -> tuple[int, int]:
    last = blocks.bit_length() - 1
    count = 1
    while count < limit and last - count >= 0 and blocks >> (last - count) & 1:
        count += 1
    return last - count + 1, count
