"""How much a block stands for: ``BLOCK_BYTES`` in the format, more where a simulation is coarse.

A planner on a virtual network may count in blocks of 64 MiB, or 10,000 nodes would be too many to
follow. Bounds that mean an amount of data (a first request, a turn of the upload queue) are written
in blocks of the format, and must not grow with what a block stands for. Bounds that mean a number
of events (how many blocks' time a peer may be silent) are blocks of any size, as they are.
"""

from __future__ import annotations

from dreamer.protocol.limits import (
    BLOCK_BYTES,
    MIB,
    SWEEP_INTERVAL_S,
    UPLOAD_COARSE_MAX_BYTES,
    UPLOAD_COARSE_SLOTS_MIN,
)

SWEPT_MIB = 6.4
"""What a source of half a gigabit per second brings between two sweeps."""

SWEEPS_SPARED_MAX = 10.0


def blocks_for(format_blocks: int, block_bytes: int) -> int:
    """Return how many blocks of ``block_bytes`` hold what ``format_blocks`` do; at least one."""
    return max(format_blocks * BLOCK_BYTES // block_bytes, 1)


def slots_for(slots: int, block_bytes: int) -> int:
    """Return how many peers are sent to at once where ``slots`` are with blocks of the format.

    Each has a block in the queue at least. Sixteen of 256 MiB would be four gigabytes, and none of
    them whole, so that it could be passed on, for half a minute.
    """
    if block_bytes <= BLOCK_BYTES:
        return slots
    return min(slots, max(UPLOAD_COARSE_MAX_BYTES // block_bytes, UPLOAD_COARSE_SLOTS_MIN))


def sweep_s(block_bytes: int) -> float:
    """Return how often a planner looks what to do when nothing happens.

    Ten times a second, in which a fast peer sends some blocks of a MiB. Where a block stands
    for many, looking more often than they come changes nothing but the bill.
    """
    coarse = block_bytes / (SWEPT_MIB * MIB)
    return SWEEP_INTERVAL_S * min(max(coarse, 1.0), SWEEPS_SPARED_MAX)
