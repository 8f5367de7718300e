"""Limits of the rate that owners have set: what goes in any stretch of time is bounded by them.

Kept as a bucket that leaks at the limit and must not run over (the dual of the one in
``protocol/shaping/bucket.py``): what it holds is what went beyond the limit lately. It may hold a
burst, and a block, since blocks go whole.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from dreamer.protocol.limits import RATE_BURST_BYTES, RATE_BURST_S
from dreamer.protocol.swarm.vocabulary import Fetch
from dreamer.simulations.invariants.books import Account, Books
from dreamer.simulations.invariants.invariant import Check, Complain, Invariant

if TYPE_CHECKING:
    from dreamer.simulations.engine.catalogue import Model
    from dreamer.simulations.engine.links import End
    from dreamer.simulations.engine.pull import Pull

BYTES_PER_MBIT = 125_000.0
ROUNDING_BYTES = 1024.0


class Excess:
    """What went beyond one limit lately, in bytes."""

    def __init__(self, bytes_s: float) -> None:
        self.allowed_bytes = max(RATE_BURST_BYTES, bytes_s * RATE_BURST_S) + ROUNDING_BYTES
        self._bytes_s = bytes_s
        self._bytes = 0.0
        self._at = 0.0

    def add(self, size_bytes: float, now: float) -> float:
        """Count bytes that go, or, less than 0, that won't after all; return the excess."""
        leaked = max(0.0, self._bytes - (now - self._at) * self._bytes_s)
        self._bytes, self._at = max(0.0, leaked + size_bytes), now
        return self._bytes


class UpRate(Invariant):
    """What is handed out to be sent keeps to the limit of the uplink."""

    name = "limit of the uplink"

    def __init__(self, books: Books, complain: Complain) -> None:
        super().__init__(books, complain)
        self._excess: dict[int, Excess] = {}

    def handed_out(
        self, end: End, model: Model, request: int, blocks: Sequence[int], now: float
    ) -> None:
        """Count a slice."""
        node = end.node
        limit = node.group.up_limit_mbit
        if not limit or node.group.misdeed is not None:
            return
        excess = self._excess.setdefault(node.index, Excess(limit * BYTES_PER_MBIT))
        over = excess.add(sum(map(model.layout.block_size, blocks)), now)
        if over > excess.allowed_bytes + model.layout.block_bytes:
            words = f"sends {over / 1e6:.1f} MB beyond its limit of {limit:g} Mbit/s"
            self.broken(node, now, words)


class DownRate(Invariant):
    """What is asked for, over all pulls of a machine, keeps to the limit of the downlink."""

    name = "limit of the downlink"

    def __init__(self, books: Books, complain: Complain) -> None:
        super().__init__(books, complain)
        self._excess: dict[int, Excess] = {}

    @property
    def commands(self) -> Mapping[type, Check]:
        """Requests."""
        return {Fetch: self._fetch}

    def _fetch(self, pull: Pull, account: Account, command: Fetch, now: float) -> None:
        node = pull.node
        limit = node.group.down_limit_mbit
        if not limit:
            return
        excess = self._excess.setdefault(node.index, Excess(limit * BYTES_PER_MBIT))
        block_bytes = pull.model.layout.block_bytes
        # What will not come after all counts for nothing; the planner has it back already.
        excess.add(-sum(map(_given_back, self.books.accounts_at(node))), now)
        over = excess.add(command.count * block_bytes, now)
        if over > excess.allowed_bytes + block_bytes:
            words = f"asks for {over / 1e6:.1f} MB beyond its limit of {limit:g} Mbit/s"
            self.broken(node, now, words)


def _given_back(account: Account) -> float:
    given, account.given_back_blocks = account.given_back_blocks, 0
    return float(given * account.pull.model.layout.block_bytes)
