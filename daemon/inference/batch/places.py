"""Where the rows of a batch lie: a batched step runs over one unbroken range of places.

Rows are named by their request's number; pure, so what must be copied comes out as moves.
"""

from __future__ import annotations

from typing import Protocol


class Places(Protocol):
    """Places 0 to ``slots`` - 1, each free or a row's, that is read or is decoded."""

    def join(self, row: int) -> int:
        """Give a row that is to be read a free place, and return it."""
        ...

    def begin_decoding(self, row: int) -> tuple[int, int] | None:
        """Let a row take part in batched steps; return two places to exchange, if any."""
        ...

    def leave(self, row: int) -> list[tuple[int, int]]:
        """Free a row's place; return the moves to make, as (from, to), one after another."""
        ...

    def place(self, row: int) -> int:
        """Return where a row is."""
        ...

    def span(self) -> list[int | None]:
        """Return who is at the places that a batched step runs over; None is nobody."""
        ...


class CompactPlaces:
    """Keeps rows together, those being decoded first: no step computes a row for nothing."""

    def __init__(self) -> None:
        self._rows: list[int] = []
        self._decoding = 0

    def join(self, row: int) -> int:
        """Give a row that is to be read a free place, and return it."""
        self._rows.append(row)
        return len(self._rows) - 1

    def begin_decoding(self, row: int) -> tuple[int, int] | None:
        """Let a row take part in batched steps; return two places to exchange, if any."""
        rows, here, there = self._rows, self._rows.index(row), self._decoding
        self._decoding += 1
        if here == there:
            return None
        rows[here], rows[there] = rows[there], rows[here]
        return here, there

    def leave(self, row: int) -> list[tuple[int, int]]:
        """Free a row's place; return the moves to make, as (from, to), one after another."""
        hole, moves = self._rows.index(row), []
        if hole < self._decoding:
            self._decoding -= 1
            if hole != self._decoding:
                moves.append((self._decoding, hole))
                self._rows[hole] = self._rows[self._decoding]
            hole = self._decoding
        last = self._rows.pop()
        if hole != len(self._rows):
            moves.append((len(self._rows), hole))
            self._rows[hole] = last
        return moves

    def place(self, row: int) -> int:
        """Return where a row is."""
        return self._rows.index(row)

    def span(self) -> list[int | None]:
        """Return who is at the places that a batched step runs over."""
        return list(self._rows[: self._decoding])


class FixedPlaces:
    """Leaves rows where they are, for memory that can't be copied: holes are computed along."""

    def __init__(self, slots: int) -> None:
        self._rows: list[int | None] = [None] * slots
        self._decoding: set[int] = set()

    def join(self, row: int) -> int:
        """Give a row that is to be read the lowest free place, and return it."""
        free = self._rows.index(None)
        self._rows[free] = row
        return free

    def begin_decoding(self, row: int) -> tuple[int, int] | None:
        """Let a row take part in batched steps, where it is."""
        self._decoding.add(row)
        return None

    def leave(self, row: int) -> list[tuple[int, int]]:
        """Free a row's place; nothing moves."""
        self._rows[self._rows.index(row)] = None
        self._decoding.discard(row)
        return []

    def place(self, row: int) -> int:
        """Return where a row is."""
        return self._rows.index(row)

    def span(self) -> list[int | None]:
        """Return who is at the places up to the last that is decoded; rows being read too."""
        ends = [at for at, row in enumerate(self._rows) if row in self._decoding]
        return self._rows[: max(ends) + 1] if ends else []
