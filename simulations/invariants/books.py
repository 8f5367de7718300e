"""What each pull was told and has asked for: kept apart from the planner, to check it against.

Only what passes between a planner and its driver counts, so that a planner which forgets something
does not have these books forget it too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from dreamer.protocol.swarm import bitfield
from dreamer.protocol.swarm.vocabulary import (
    Blame,
    BlockRejected,
    BlocksFound,
    BlockVerified,
    Cancel,
    Command,
    Drop,
    Event,
    Fetch,
    Lane,
    RequestRefused,
    SourceId,
    SourceJoined,
    SourceLacks,
    SourceLost,
    SourceMoved,
    Tick,
)

if TYPE_CHECKING:
    from dreamer.simulations.engine.node import Node
    from dreamer.simulations.engine.pull import Pull

FORGOTTEN_AFTER_S = 60.0
"""How long a closed request is remembered: a block of it may still be on its way."""


@dataclass
class Told:
    """What is known of a source. ``hung``: it let a request time out, and brought nothing since."""

    lane: Lane
    blocks: int
    usable: bool = True
    hung: bool = False
    open: dict[int, None] = field(default_factory=dict)


@dataclass
class Request:
    """``left``: blocks that are waited for; ``sent``: what its source has sent of it.

    ``called_off_at`` is when the last of its blocks was that was not to be sent any more.
    """

    source: SourceId
    blocks: int
    left: int
    sent: int = 0
    called_off: int = 0
    called_off_at: float = 0.0


class Ledger:
    """The requests of one machine, of all its pulls: numbers are used once on each machine."""

    def __init__(self) -> None:
        self.requests: dict[int, Request] = {}
        self._closed: deque[tuple[float, int]] = deque()

    def closed(self, number: int, now: float) -> None:
        """Note that nothing is waited for any more, and forget what is long over."""
        self._closed.append((now, number))
        while self._closed[0][0] < now - FORGOTTEN_AFTER_S:
            del self.requests[self._closed.popleft()[1]]


class Account:
    """One pull's part of the books, from the beginning of its present planner on."""

    def __init__(self, pull: Pull, ledger: Ledger, now: float) -> None:
        self.pull = pull
        self.have = pull.present
        self.sources: dict[SourceId, Told] = {}
        self.requests = ledger.requests
        self._ledger = ledger
        self.copies: dict[int, int] = {}
        """How many sources owe each block that is asked for."""
        self.given_back_blocks = 0
        """How many were asked for and won't come after all; for whoever counts, to set to 0."""
        self.peers_brought_at = now
        """When a member has last brought something."""
        self._now = now

    def available(self) -> int:
        """Return the blocks that some member can give, as far as this pull can know.

        Not of one whose lane carries nothing at present; nor of one that hung, unless it is
        whole: nobody else may have what it has.
        """
        everything, found = self.pull.model.everything, 0
        for told in self.sources.values():
            gives = told.usable and (not told.hung or told.blocks == everything)
            if gives and told.lane is not Lane.ORIGIN:
                found |= told.blocks
        return found

    def open_at(self, source: SourceId) -> Iterator[Request]:
        """Yield the requests that a source has not settled."""
        told = self.sources.get(source)
        if told is not None:
            yield from (self.requests[number] for number in told.open)

    # What the planner heard

    def heard(self, event: Event, now: float) -> None:
        """Take note of an event."""
        self._now = now
        take = _HEARD.get(type(event))
        if take is not None:
            take(self, event)

    def _joined(self, event: SourceJoined) -> None:
        told = self.sources.get(event.source)
        if told is None or told.lane is not event.lane:
            self._gone(event.source)
            self.sources[event.source] = Told(event.lane, event.blocks)
        else:
            told.blocks = event.blocks

    def _lacks(self, event: SourceLacks) -> None:
        if (told := self.sources.get(event.source)) is not None:
            told.blocks &= ~event.blocks
            for number in list(told.open):
                self.let_go(number, event.blocks)

    def _moved(self, event: SourceMoved) -> None:
        if (told := self.sources.get(event.source)) is not None:
            self._close_all(told)
            told.lane, told.usable = event.lane, event.usable

    def _lost(self, event: SourceLost | Drop) -> None:
        self._gone(event.source)

    def _gone(self, source: SourceId) -> None:
        if (told := self.sources.pop(source, None)) is not None:
            self._close_all(told)

    def _verified(self, event: BlockVerified) -> None:
        bit = 1 << event.block
        self.let_go(event.request, bit, came=True)
        told = self.sources.get(event.source)
        if told is not None:
            told.hung = False
        if not self.have & bit:
            self.have |= bit
            if told is None or told.lane is not Lane.ORIGIN:
                self.peers_brought_at = self._now

    def _found(self, event: BlocksFound) -> None:
        self.have |= event.blocks

    def _rejected(self, event: BlockRejected) -> None:
        told = self.sources.get(event.source)
        if told is not None and told.lane is Lane.ORIGIN:
            told.blocks &= ~(1 << event.block)
            self.let_go(event.request, 1 << event.block)

    def _refused(self, event: RequestRefused) -> None:
        told, asked = self.sources.get(event.source), self.requests.get(event.request)
        if told is None or asked is None or not asked.left:
            return
        if not event.busy and told.lane is not Lane.ORIGIN:
            told.blocks &= ~asked.left
        self.let_go(event.request, asked.left)

    # What it said

    def said(self, command: Command, event: Event | None, now: float) -> None:
        """Take note of a command that followed an event."""
        self._now = now
        match command:
            case Fetch():
                self._fetch(command)
            case Cancel():
                self._cancel(command, by_time=isinstance(event, Tick))
            case Drop():
                self._lost(command)
            case Blame(source) if self._is_member(source):
                self._gone(source)

    def _cancel(self, cancel: Cancel, *, by_time: bool) -> None:
        request = self.requests.get(cancel.request)
        if request is None:
            return
        if cancel.block is not None:
            self._call_off(cancel.request, 1 << cancel.block)
            return
        if by_time and (told := self.sources.get(cancel.source)) is not None:
            # Only time takes a whole request away from a source that still is one.
            told.hung = True
        self._call_off(cancel.request, request.left)

    def _is_member(self, source: SourceId) -> bool:
        told = self.sources.get(source)
        return told is not None and told.lane is not Lane.ORIGIN

    def _fetch(self, fetch: Fetch) -> None:
        if (told := self.sources.get(fetch.source)) is None:
            return
        blocks = bitfield.span(fetch.first, fetch.count)
        self.requests[fetch.request] = Request(fetch.source, blocks, blocks)
        told.open[fetch.request] = None
        for block in bitfield.members(blocks):
            self.copies[block] = self.copies.get(block, 0) + 1

    # Requests end

    def close(self, now: float) -> None:
        """Call everything off: this planner is no more."""
        self._now = now
        for told in self.sources.values():
            for number in list(told.open):
                self._call_off(number, self.requests[number].left)

    def _call_off(self, number: int, blocks: int) -> None:
        request = self.requests.get(number)
        if request is not None:
            request.called_off |= request.blocks & blocks
            request.called_off_at = self._now
            self.let_go(number, blocks)

    def let_go(self, number: int, blocks: int, *, came: bool = False) -> None:
        """Note that some blocks of a request are waited for no more; ``came``: they are here."""
        request = self.requests.get(number)
        if request is None or not (gone := request.left & blocks):
            return
        request.left &= ~gone
        if not came:
            self.given_back_blocks += gone.bit_count()
        for block in bitfield.members(gone):
            if self.copies[block] == 1:
                del self.copies[block]
            else:
                self.copies[block] -= 1
        if not request.left:
            self._ended(number, request)

    def _ended(self, number: int, request: Request) -> None:
        if (told := self.sources.get(request.source)) is not None:
            told.open.pop(number, None)
        self._ledger.closed(number, self._now)

    def _close_all(self, told: Told) -> None:
        for number in list(told.open):
            self.let_go(number, self.requests[number].left)


_HEARD: dict[type, Callable[[Account, Any], None]] = {
    SourceJoined: Account._joined,
    SourceLacks: Account._lacks,
    SourceMoved: Account._moved,
    SourceLost: Account._lost,
    BlockVerified: Account._verified,
    BlocksFound: Account._found,
    BlockRejected: Account._rejected,
    RequestRefused: Account._refused,
}
"""``SourceGained`` is taken by ``watch.py`` itself, since most events are that."""


class Books:
    """The accounts of all pulls that have a planner at the time, the ledgers of all machines."""

    def __init__(self) -> None:
        self.accounts: dict[Pull, Account] = {}
        self._ledgers: dict[int, Ledger] = {}

    def open(self, pull: Pull, now: float) -> Account:
        """Begin an account for a pull's new planner."""
        self.close(pull, now)
        account = self.accounts[pull] = Account(pull, self._ledger(pull.node), now)
        return account

    def of(self, pull: Pull) -> Account | None:
        """Return the account of a pull, if its planner has begun."""
        return self.accounts.get(pull)

    def accounts_at(self, node: Node) -> list[Account]:
        """Return the accounts of all pulls of a machine."""
        found = (self.accounts.get(pull) for pull in node.pulls.values())
        return [account for account in found if account is not None]

    def request(self, node: Node, number: int) -> Request | None:
        """Return a request of a machine, if it is open or was a moment ago."""
        return self._ledger(node).requests.get(number)

    def close(self, pull: Pull, now: float) -> None:
        """Forget a pull that is over, or whose planner is."""
        if (account := self.accounts.pop(pull, None)) is not None:
            account.close(now)

    def _ledger(self, node: Node) -> Ledger:
        ledger = self._ledgers.get(node.index)
        if ledger is None:
            ledger = self._ledgers[node.index] = Ledger()
        return ledger
