"""What is still missing of a model: which blocks, how many bytes, how much of each file.

Counted as blocks come in: a model may have 20,000 files and 100,000 blocks, and going through
them for every block would cost more than moving it.
"""

from __future__ import annotations

from typing import Protocol

from dreamer.protocol.swarm import bitfield


class Geometry(Protocol):
    """What the planner must know of a model: its blocks and where its files begin and end."""

    @property
    def block_count(self) -> int:
        """Number of blocks in the whole model."""
        ...

    @property
    def file_count(self) -> int:
        """Number of files."""
        ...

    @property
    def block_bytes(self) -> int:
        """Bytes of a block that is not the last of its file."""
        ...

    def block_size(self, block: int) -> int:
        """Return the bytes of a block: ``block_bytes``, or fewer for the last of a file."""
        ...

    def blocks_of_file(self, file_index: int) -> range:
        """Return the blocks of a file."""
        ...

    def file_of(self, block: int) -> int:
        """Return the file that a block belongs to."""
        ...


class Remaining:
    """The missing part of one model; ``blocks`` is a set as in ``bitfield.py``."""

    def __init__(self, geometry: Geometry, present: int) -> None:
        self._geometry = geometry
        self.blocks = bitfield.full(geometry.block_count) & ~present
        self.size_bytes = 0
        self._of_file = [self._count_file(index) for index in range(geometry.file_count)]

    def _count_file(self, file_index: int) -> int:
        span = self._geometry.blocks_of_file(file_index)
        left = self.blocks >> span.start & bitfield.full(len(span))
        self.size_bytes += left.bit_count() * self._geometry.block_bytes
        if span and left >> (len(span) - 1):
            self.size_bytes -= self._geometry.block_bytes - self._geometry.block_size(span[-1])
        return left.bit_count()

    def whole_files(self) -> list[int]:
        """Return the files that miss no block, empty ones included."""
        return [index for index, left in enumerate(self._of_file) if not left]

    def take(self, blocks: int) -> list[int]:
        """Take blocks off, those that were not taken before; return the files this made whole."""
        whole: list[int] = []
        for block in bitfield.members(blocks & self.blocks):
            self.size_bytes -= self._geometry.block_size(block)
            file_index = self._geometry.file_of(block)
            self._of_file[file_index] -= 1
            if not self._of_file[file_index]:
                whole.append(file_index)
        self.blocks &= ~blocks
        return whole
