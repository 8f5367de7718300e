"""Where each block lies: blocks are numbered through the files of a manifest, in their order.

A file begins a new block, so its last block may be short, and an empty file has none.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate

from dreamer.protocol.limits import BLOCK_BYTES


def blocks_in(size_bytes: int, block_bytes: int = BLOCK_BYTES) -> int:
    """Return how many blocks a file of ``size_bytes`` has."""
    # Rounded up, in integers: sizes can be past what a float counts exactly.
    return -(-size_bytes // block_bytes)


@dataclass(frozen=True)
class Span:
    """``length`` bytes at ``offset`` of one file."""

    file_index: int
    offset: int
    length: int


class Layout:
    """Finds blocks from file sizes (bytes, in manifest order) and the other way round.

    ``block_bytes`` is the format's, except where a simulation counts in coarser blocks.
    """

    def __init__(self, sizes: Iterable[int], block_bytes: int = BLOCK_BYTES) -> None:
        self._sizes = tuple(sizes)
        self._block_bytes = block_bytes
        # _first[i] is the first block of file i; one more entry holds the total.
        self._first = [0, *accumulate(blocks_in(size, block_bytes) for size in self._sizes)]

    @property
    def block_count(self) -> int:
        """Number of blocks in the whole model."""
        return self._first[-1]

    @property
    def file_count(self) -> int:
        """Number of files."""
        return len(self._sizes)

    @property
    def block_bytes(self) -> int:
        """Bytes of a block that is not the last of its file."""
        return self._block_bytes

    def blocks_of_file(self, file_index: int) -> range:
        """Return the blocks of a file; an empty range if it has no bytes."""
        return range(self._first[file_index], self._first[file_index + 1])

    def file_of(self, block: int) -> int:
        """Return the index of the file that ``block`` belongs to.

        Raises:
            IndexError: there is no such block.
        """
        if not 0 <= block < self.block_count:
            raise IndexError(f"block {block} of {self.block_count}")
        # Empty files begin where the next one does; the rightmost is the one with bytes.
        return bisect_right(self._first, block) - 1

    def span(self, block: int) -> Span:
        """Return where ``block`` lies; raises IndexError if there is no such block."""
        file_index = self.file_of(block)
        offset = (block - self._first[file_index]) * self._block_bytes
        return Span(file_index, offset, min(self._block_bytes, self._sizes[file_index] - offset))

    def block_size(self, block: int) -> int:
        """Return the bytes of ``block``; raises IndexError if there is no such block."""
        return self.span(block).length

    def blocks_of_range(self, file_index: int, offset: int, length: int) -> range:
        """Return the blocks that ``length`` bytes at ``offset`` of a file touch."""
        first = self._first[file_index]
        end = first + blocks_in(offset + length, self._block_bytes)
        return range(first + offset // self._block_bytes, end)

    def runs(self, blocks: range) -> list[range]:
        """Split consecutive blocks into the longest runs that lie within one file each."""
        runs = []
        start = blocks.start
        while start < blocks.stop:
            stop = min(blocks.stop, self._first[self.file_of(start) + 1])
            runs.append(range(start, stop))
            start = stop
        return runs
