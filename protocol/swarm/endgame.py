"""The last blocks: an idle source asks again for what a slower one still owes.

Whoever delivers first wins and the other copy is cancelled, so the end of a pull is as fast as
its fastest source and not as slow as its slowest; at most ``ENDGAME_MAX_COPIES`` of a block
are under way at a time.
"""

from __future__ import annotations

from collections.abc import Iterable

from dreamer.protocol.limits import ENDGAME_MAX_COPIES, ENDGAME_UNMEASURED_S
from dreamer.protocol.swarm.source import Source


def takeover(
    idle: Source, sources: Iterable[Source], allowed: int, now: float
) -> tuple[int, int] | None:
    """Return a run (first, count) that ``idle`` should ask for although another source owes it.

    None when it is not idle, or when nothing would come sooner through it. The run is the end of
    the slowest request, since requests are served from their beginning.
    """
    if idle.requests or not allowed:
        return None
    owners = [source for source in sources if source.requests]
    open_to_copy = allowed & ~_copied_enough(owners)
    own_wait = idle.seconds_for(1) if idle.meter.bytes_per_s else ENDGAME_UNMEASURED_S
    best: tuple[float, int] | None = None
    for owner in owners:
        blocks = owner.pending() & open_to_copy
        wait = _remaining_s(owner, now)
        if blocks and wait > own_wait and (best is None or wait > best[0]):
            best = (wait, blocks)
    return _tail(best[1], idle.request_blocks()) if best else None


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
    return owner.seconds_for(owner.pending().bit_count())


def _tail(blocks: int, limit: int) -> tuple[int, int]:
    last = blocks.bit_length() - 1
    count = 1
    while count < limit and last - count >= 0 and blocks >> (last - count) & 1:
        count += 1
    return last - count + 1, count
