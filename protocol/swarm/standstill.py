"""Whether a pull has stood still for too long."""

from __future__ import annotations

from collections.abc import Iterable

from dreamer.protocol.limits import PULL_STALL_TIMEOUT_S
from dreamer.protocol.swarm.source import Source


def stalled(
    sources: Iterable[Source],
    progress_at: float,
    unverified_bytes: int,
    block_bytes: int,
    now: float,
) -> bool:
    """Return whether a pull has stood still for too long.

    On a slow line one block may take longer than that: while bytes come, and fewer than the blocks
    have that are under way at least, the pull gets on. Who sends more than that and never a right
    block is no help. A member that is busy will have time: it says so anew each time it is asked,
    and a slow seed of many serves them in turn.

    Args:
        progress_at: when a block was verified last, or a member said that it is busy.
        unverified_bytes: what has come since the last verified block.
    """
    if now < progress_at + PULL_STALL_TIMEOUT_S:
        # Nearly always: what is under way need not be looked at.
        return False
    asked = [source for source in sources if source.requests]
    under_way = sum(len(source.requests) for source in asked)
    at = progress_at
    if asked and unverified_bytes < under_way * block_bytes:
        at = max(at, *(source.quiet_since for source in asked))
    return now >= at + PULL_STALL_TIMEOUT_S
