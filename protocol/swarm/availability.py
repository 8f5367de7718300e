"""How many sources hold each block, kept so that the rarest of any set is found at once.

The counts are stored bit-sliced: plane k holds bit k of every block's count. Adding a source's
blocks is a ripple carry over the planes, and the rarest of a set is found by walking down
from the highest plane, so both cost the logarithm of the number of sources, not its square.
"""

from __future__ import annotations


class Availability:
    """Per-block counts of sources."""

    def __init__(self) -> None:
        self._planes: list[int] = []
        # Added, but not counted yet: what many sources gain between two looks is mostly not the
        # same, and is then counted in one go.
        self._uncounted = 0

    def add(self, blocks: int) -> None:
        """Count one more source for each of ``blocks``."""
        if self._uncounted & blocks:
            self._count()
        self._uncounted |= blocks

    def _count(self) -> None:
        carry, level = self._uncounted, 0
        self._uncounted = 0
        while carry:
            if level == len(self._planes):
                self._planes.append(0)
            plane = self._planes[level]
            self._planes[level] = plane ^ carry
            carry &= plane
            level += 1

    def remove(self, blocks: int) -> None:
        """Count one source less for each of ``blocks``; each must have been added before."""
        self._count()
        borrow = blocks
        for level, plane in enumerate(self._planes):
            if not borrow:
                return
            self._planes[level] = plane ^ borrow
            borrow &= ~plane
        assert not borrow, "a block was removed more often than added"

    def rarest(self, blocks: int) -> int:
        """Return those of ``blocks`` that the fewest sources hold."""
        self._count()
        for plane in reversed(self._planes):
            rarer = blocks & ~plane
            if rarer:
                blocks = rarer
        return blocks

    def any(self) -> int:
        """Return the blocks that at least one source holds."""
        union = self._uncounted
        for plane in self._planes:
            union |= plane
        return union
