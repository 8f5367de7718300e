"""What all invariants are: observers that know what pulls were told, and that can complain."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from dreamer.simulations.engine.observer import Observer

if TYPE_CHECKING:
    from dreamer.simulations.engine.node import Node
    from dreamer.simulations.engine.pull import Pull
    from dreamer.simulations.invariants.books import Account, Books

Check = Callable[["Pull", "Account", Any, float], None]
"""Looks at an event or a command of a pull's planner; the last is the time."""

Complain = Callable[["Invariant", str, float, str], None]


class Invariant(Observer):
    """One thing that holds at any moment of any run.

    ``commands`` are looked at in the order in which the planner gave them, before the books know
    of them; ``events`` once all that the planner said to them is in the books.
    """

    name: ClassVar[str]

    def __init__(self, books: Books, complain: Complain) -> None:
        self.books = books
        self._complain = complain

    @property
    def events(self) -> Mapping[type, Check]:
        """What is to be called with each kind of event."""
        return {}

    @property
    def commands(self) -> Mapping[type, Check]:
        """What is to be called with each kind of command."""
        return {}

    def broken(self, node: Node | None, now: float, words: str) -> None:
        """Say that it does not hold; ``words`` go on after the name of the node."""
        self._complain(self, node.name if node is not None else "", now, words)


def naming(blocks: int) -> str:
    """Return a set of blocks in words that fit a line."""
    first = (blocks & -blocks).bit_length() - 1
    more = blocks.bit_count() - 1
    return f"block {first}" + (f" and {more} more" if more else "")
