"""What a planner asks for: nothing twice without cause, no more at a time than its bounds say.

Causes for which a block is asked for again are those that end a request in the books: its source
refused it, was lost or moved to another lane, let it time out, sent it wrong, or was relieved of
it. At the end a second copy is asked for on purpose (``protocol/swarm/endgame.py``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from dreamer.protocol.limits import (
    ENDGAME_MAX_COPIES,
    LINKS_MAX_PER_NODE,
    REQUESTS_IN_FLIGHT_MAX,
)
from dreamer.protocol.swarm import bitfield
from dreamer.protocol.swarm.vocabulary import BlockVerified, Fetch, SourceJoined
from dreamer.simulations.invariants.books import Account
from dreamer.simulations.invariants.invariant import Check, Invariant, naming

if TYPE_CHECKING:
    from dreamer.simulations.engine.pull import Pull


class NothingTwice(Invariant):
    """Nobody asks for what is here, nor a source again for what it owes."""

    name = "nothing asked twice"

    @property
    def commands(self) -> Mapping[type, Check]:
        """Requests."""
        return {Fetch: self._fetch}

    def _fetch(self, pull: Pull, account: Account, command: Fetch, now: float) -> None:
        blocks = bitfield.span(command.first, command.count)
        if blocks & account.have:
            here = naming(blocks & account.have)
            self.broken(pull.node, now, f"asks for {here}, which it has")
        for request in account.open_at(command.source):
            if request.left & blocks:
                again = naming(request.left & blocks)
                self.broken(pull.node, now, f"asks again for {again}, which that source owes it")


class CalledOff(Invariant):
    """Once a block is here, nobody is left to send it a second time."""

    name = "copies are called off"

    @property
    def events(self) -> Mapping[type, Check]:
        """Blocks that come."""
        return {BlockVerified: self._came}

    def _came(self, pull: Pull, account: Account, event: BlockVerified, now: float) -> None:
        if event.block in account.copies:
            words = f"has block {event.block} and still waits for it from others"
            self.broken(pull.node, now, words)


class InFlight(Invariant):
    """So many requests of a source, so many copies of a block, and no more."""

    name = "requests in flight"

    @property
    def commands(self) -> Mapping[type, Check]:
        """Requests."""
        return {Fetch: self._fetch}

    def _fetch(self, pull: Pull, account: Account, command: Fetch, now: float) -> None:
        told = account.sources.get(command.source)
        if told is None:
            self.broken(pull.node, now, f"asks {command.source:.8}, which is gone")
            return
        if len(told.open) >= REQUESTS_IN_FLIGHT_MAX:
            self.broken(pull.node, now, f"has {len(told.open)} requests open at one source")
        for block in range(command.first, command.first + command.count):
            if account.copies.get(block, 0) >= ENDGAME_MAX_COPIES:
                count = account.copies[block] + 1
                self.broken(pull.node, now, f"asks for {count} copies of block {block} at a time")


class Links(Invariant):
    """A machine has no more links than it may."""

    name = "links"

    @property
    def events(self) -> Mapping[type, Check]:
        """A member has been linked and has answered."""
        return {SourceJoined: self._joined}

    def _joined(self, pull: Pull, account: Account, event: SourceJoined, now: float) -> None:
        count = len(pull.node.links)
        if count > LINKS_MAX_PER_NODE:
            self.broken(pull.node, now, f"has {count} links")
