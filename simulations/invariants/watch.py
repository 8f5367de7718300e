"""Has all invariants looked at during a run, and keeps what they complain of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dreamer.protocol.swarm.vocabulary import Command, Event, SourceGained
from dreamer.simulations.engine.observer import Observer
from dreamer.simulations.invariants.books import Account, Books
from dreamer.simulations.invariants.every import EVERY
from dreamer.simulations.invariants.invariant import Check, Invariant
from dreamer.simulations.invariants.violation import BrokenError, Violation

if TYPE_CHECKING:
    from dreamer.simulations.engine.node import Node
    from dreamer.simulations.engine.pull import Pull

VIOLATIONS_MAX = 1000
"""So many are kept: what breaks once tends to break for every block."""


class Planners(Observer):
    """Keeps the books, and shows events and commands to whom they concern, and to nobody else.

    Most events concern nobody, and a run is made of millions.
    """

    def __init__(self, books: Books, invariants: Sequence[Invariant]) -> None:
        self._books = books
        # Looked up without a call: this is done for every event of a run.
        self._accounts = books.accounts
        self.checks = 0
        self._events: dict[type, list[Check]] = {}
        self._commands: dict[type, list[Check]] = {}
        for each in invariants:
            for kind, check in each.events.items():
                self._events.setdefault(kind, []).append(check)
            for kind, check in each.commands.items():
                self._commands.setdefault(kind, []).append(check)

    def planned(
        self, pull: Pull, event: Event | None, commands: Sequence[Command], now: float
    ) -> None:
        """Show what a planner heard and said."""
        account = self._accounts.get(pull)
        if event is None or account is None:
            account = self._books.open(pull, now)
        if isinstance(event, SourceGained):
            # Each block that moves is told to dozens: most events are of this kind.
            told = account.sources.get(event.source)
            if told is not None:
                told.blocks |= event.blocks
        elif event is not None:
            account.heard(event, now)
        if commands:
            self._said(pull, account, event, commands, now)
        for check in self._events.get(type(event), ()):
            check(pull, account, event, now)
            self.checks += 1

    def _said(
        self,
        pull: Pull,
        account: Account,
        event: Event | None,
        commands: Sequence[Command],
        now: float,
    ) -> None:
        for command in commands:
            checks = self._commands.get(type(command), ())
            for check in checks:
                check(pull, account, command, now)
            self.checks += len(checks)
            account.said(command, event, now)

    def pull_ended(self, pull: Pull, now: float) -> None:
        """Close its account."""
        self._books.close(pull, now)

    def left(self, node: Node, now: float) -> None:
        """Close the accounts of a machine: its planners have ended without a word."""
        for pull in node.pulls.values():
            self._books.close(pull, now)


class Watch:
    """The invariants of one run. ``strict``: the first violation ends it.

    ``observers`` are what the run is to be given; ``violations`` what was found, in its order.
    """

    def __init__(self, kinds: Sequence[type[Invariant]] = EVERY, *, strict: bool = False) -> None:
        self.violations: list[Violation] = []
        self.found = 0
        self._strict = strict
        books = Books()
        invariants = [kind(books, self._complain) for kind in kinds]
        # The books are closed last: others may look something up when a pull ends.
        self._planners = Planners(books, invariants)
        self.observers: list[Observer] = [*invariants, self._planners]

    @property
    def checks(self) -> int:
        """How many times something was looked at that planners heard or said."""
        return self._planners.checks

    def _complain(self, invariant: Invariant, node: str, now: float, words: str) -> None:
        violation = Violation(now, node, invariant.name, words)
        self.found += 1
        if self.found <= VIOLATIONS_MAX:
            self.violations.append(violation)
        if self._strict:
            raise BrokenError(violation)
