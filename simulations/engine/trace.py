"""The sum of everything that happened in a run: equal for equal runs, in any process."""

from __future__ import annotations

import struct
from hashlib import blake2b

_ENTRY = struct.Struct("<dIIqq")


class Trace:
    """Takes entries in their order; ``hash`` names the run so far.

    Not made of ``repr``: what a later Python writes differently must not change a run's name.
    """

    def __init__(self) -> None:
        self._sum = blake2b(digest_size=16)
        self.entries = 0

    def add(self, now: float, node: int, kind: int, first: int = 0, second: int = 0) -> None:
        """Take note that something of a ``kind`` happened at a node; numbers say to what."""
        self._sum.update(_ENTRY.pack(now, node, kind, first, second))
        self.entries += 1

    @property
    def hash(self) -> str:
        """32 hex digits."""
        return self._sum.hexdigest()
