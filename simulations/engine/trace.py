"""The sum of everything that happened in a run: equal for equal runs, in any process."""

from __future__ import annotations

import struct
from hashlib import blake2b

_NUMBERS = "dIIqq"
"""Of an entry, as ``struct`` writes them."""

_SUMMED = 1024 * len(_NUMBERS)
"""So many numbers are summed up at a time: a call for each entry would cost more than the sum."""


class Trace:
    """Takes entries in their order; ``hash`` names the run so far.

    Not made of ``repr``: what a later Python writes differently must not change a run's name.
    """

    def __init__(self) -> None:
        self._sum = blake2b(digest_size=16)
        self._unsummed: list[float] = []

    def add(self, now: float, node: int, kind: int, first: int = 0, second: int = 0) -> None:
        """Take note that something of a ``kind`` happened at a node; numbers say to what."""
        self._unsummed += (now, node, kind, first, second)
        if len(self._unsummed) >= _SUMMED:
            self._add_up()

    def _add_up(self) -> None:
        entries = len(self._unsummed) // len(_NUMBERS)
        self._sum.update(struct.pack("<" + _NUMBERS * entries, *self._unsummed))
        self._unsummed.clear()

    @property
    def hash(self) -> str:
        """32 hex digits."""
        self._add_up()
        return self._sum.hexdigest()
