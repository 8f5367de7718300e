"""Work that is moved: an idle source asks for what a slower one still owes.

At the end of a pull both are left to it: whoever delivers first wins and the other copy is
cancelled, so the end is as fast as the fastest source and not as slow as the slowest; at most
``ENDGAME_MAX_COPIES`` of a block are under way at a time. Before the end nothing is asked for
twice, but a source that has slowed, and owes more than it will bring in ``RELIEVE_OVER_S``, is
relieved of the tail.
"""

from __future__ import annotations

from collections.abc import Iterable

from dreamer.protocol.limits import (
    ENDGAME_MAX_COPIES,
    ENDGAME_UNMEASURED_S,
    RELIEVE_OVER_S,
)
from dreamer.protocol.swarm.source import Source


def takeover(
    idle: Source, sources: Iterable[Source], allowed: int, now: float
) -> tuple[int, int] | None:
    """Return a run (first, count) that ``idle`` should ask for although another source owes it.

    None when it is not idle, or when nothing would come sooner through it. The run is the end of
    the slowest request, since requests are served from their beginning.
    """
    owners = [source for source in sources if source.requests]
    return _from_slowest(idle, owners, allowed & ~_copied_enough(owners), 0.0, now)


def relief(
    idle: Source, sources: Iterable[Source], allowed: int, now: float
) -> tuple[int, int] | None:
    """Return a run that ``idle`` should be given instead of a source that has slowed."""
    owners = [source for source in sources if source.requests]
    return _from_slowest(idle, owners, allowed, RELIEVE_OVER_S, now)


def _from_slowest(
    idle: Source, owners: list[Source], allowed: int, over_s: float, now: float
) -> tuple[int, int] | None:
    if idle.requests or not allowed:
        return None
    own_wait = idle.seconds_for(1) if idle.meter.bytes_per_s else ENDGAME_UNMEASURED_S
    best: tuple[float, int] | None = None
    for owner in owners:
        wait = _remaining_s(owner, now)
        if wait > own_wait + over_s and (best is None or wait > best[0]):
            blocks = owner.pending() & allowed
            if blocks:
                best = (wait, blocks)
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


def _copied_enough(owners: list[Source]) -> int:
    counted: list[int] = [0] * ENDGAME_MAX_COPIES
    for owner in owners:
        blocks = owner.pending()
        for level in range(ENDGAME_MAX_COPIES):
            counted[level], blocks = counted[level] | blocks, counted[level] & blocks
    return counted[-1]


def _remaining_s(owner: Source, now: float) -> float:
    if now >= owner.stale_at():
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
