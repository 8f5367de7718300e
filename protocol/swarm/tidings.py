"""How long a node may wait before it tells its followers what it has gained."""

from __future__ import annotations

from dreamer.protocol.limits import HAVE_FLUSH_MAX_S, HAVE_FLUSH_MIN_S, HAVE_FLUSH_S_PER_BLOCK


def flush_delay_s(blocks_said: int) -> float:
    """Return the seconds until the next telling, after one of ``blocks_said`` blocks.

    A block that nobody knows of is one that nobody asks for, so a node that gains few tells at
    once; one that gains hundreds a second tells of many together.
    """
    return min(max(blocks_said * HAVE_FLUSH_S_PER_BLOCK, HAVE_FLUSH_MIN_S), HAVE_FLUSH_MAX_S)
