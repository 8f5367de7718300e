"""Looks for stop strings in text that comes in pieces; none of one is ever given out.

Text that may yet become a stop string is held back until it is known. What is given out depends
on the text alone, not on where it was cut into pieces: the stop string that ends first counts.
"""

from __future__ import annotations


class Stops:
    """Text goes in by ``push``; ``found`` says that a stop string came."""

    def __init__(self, stops: tuple[str, ...]) -> None:
        self._stops = stops
        self._held = ""
        self.found = False

    def push(self, piece: str) -> str:
        """Take a piece of text; return what can be given out now, often all of it."""
        if not self._stops:
            return piece
        text = self._held + piece
        if (end := self._first(text)) is not None:
            self.found, self._held = True, ""
            return text[:end]
        keep = self._may_begin(text)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def flush(self) -> str:
        """Return what was held back, now that nothing more comes."""
        text, self._held = self._held, ""
        return text

    def _first(self, text: str) -> int | None:
        """Return where the stop string begins whose end comes first, the longest of such."""
        found = [(at + len(stop), at) for stop in self._stops if (at := text.find(stop)) >= 0]
        return min(found)[1] if found else None

    def _may_begin(self, text: str) -> int:
        """Return how long the longest end of ``text`` is that a stop string begins with."""
        longest = min(len(text), max(map(len, self._stops)) - 1)
        for size in range(longest, 0, -1):
            end = text[-size:]
            if any(stop.startswith(end) for stop in self._stops):
                return size
        return 0
