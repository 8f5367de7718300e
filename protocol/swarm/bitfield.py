"""Sets of blocks as Python integers: bit i stands for block i.

Union, difference and rarity over 100,000 blocks are then a few machine operations on a few
kilobytes, which is what lets one process plan for thousands of nodes.
"""

from __future__ import annotations

from collections.abc import Iterator

from dreamer.protocol.errors import RemoteProtocolError


def full(block_count: int) -> int:
    """Return the set of all blocks."""
    return (1 << block_count) - 1


def span(first: int, count: int) -> int:
    """Return the set of ``count`` blocks from ``first``."""
    return full(count) << first


def encode(blocks: int, block_count: int) -> bytes:
    """Return the set as ``ceil(block_count / 8)`` bytes, block 0 in the lowest bit of byte 0."""
    return blocks.to_bytes((block_count + 7) // 8, "little")


def decode(data: bytes, block_count: int) -> int:
    """Return the set that ``encode`` wrote.

    Raises:
        RemoteProtocolError: the length is wrong or a bit past the last block is set.
    """
    blocks = int.from_bytes(data, "little")
    if len(data) != (block_count + 7) // 8 or blocks >> block_count:
        raise RemoteProtocolError(f"a bitfield of {len(data)} bytes for {block_count} blocks")
    return blocks


def lowest(blocks: int) -> int:
    """Return the first block of a set that is not empty."""
    return (blocks & -blocks).bit_length() - 1


def members(blocks: int) -> Iterator[int]:
    """Yield the blocks of a set in ascending order."""
    # By bytes: taking bits off the whole integer would copy all of it for each of them.
    base = lowest(blocks) // 8 * 8 if blocks else 0
    window = blocks >> base
    for index, byte in enumerate(window.to_bytes((window.bit_length() + 7) // 8, "little")):
        while byte:
            yield base + 8 * index + lowest(byte)
            byte &= byte - 1


def run_length(blocks: int, first: int, limit: int) -> int:
    """Return how many blocks from ``first`` on are all in the set, at most ``limit``."""
    window = (blocks >> first) & full(limit)
    return lowest(~window)


def runs(blocks: int, limit: int) -> Iterator[tuple[int, int]]:
    """Yield the set as (first, count) runs of at most ``limit`` blocks."""
    while blocks:
        first = lowest(blocks)
        count = run_length(blocks, first, limit)
        yield first, count
        blocks &= ~span(first, count)


def first_at_or_after(blocks: int, position: int) -> int:
    """Return the first block of a non-empty set at or after ``position``, going round the end."""
    above = blocks >> position
    return position + lowest(above) if above else lowest(blocks)
