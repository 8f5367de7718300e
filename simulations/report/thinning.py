"""Long series made short enough for a picture; what is largest and last stays in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

Item = TypeVar("Item")


def evenly(items: Sequence[Item], count_max: int) -> list[Item]:
    """Return at most ``count_max`` items, the first and the last of them, evenly picked."""
    last = len(items) - 1
    if last < count_max:
        return list(items)
    return [items[round(at * last / (count_max - 1))] for at in range(count_max)]


def binned(counts: Sequence[int], width: int) -> list[int]:
    """Return the sums of each ``width`` items in a row; the last may be of fewer."""
    return [sum(counts[first : first + width]) for first in range(0, len(counts), width)]


def width_for(count: int, bins_max: int) -> int:
    """Return how many items go into each bin, for at most ``bins_max`` bins."""
    return max(1, -(-count // bins_max))


def used(counts: Sequence[int]) -> int:
    """Return after how many items only zeros come."""
    return next((at for at in range(len(counts), 0, -1) if counts[at - 1]), 0)
