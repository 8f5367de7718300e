"""How many bytes may pass over relays (TURN), and which links may carry blocks meanwhile.

Relays cost money, so there are three budgets: for each peer and for all of them together by
calendar month, and for all by day; days and months are UTC's. Every byte that passes counts,
messages too, but only blocks stop: a link whose budget is spent stays up for what is small.

Each link is told up to which count it may carry blocks (``Allow``), so that it stops by itself
within a chunk. Budgets that several links draw on are shared among those that move blocks at the
time; beyond a budget goes at most what the others carried since they last told their counts.

Feed every event with ``now`` (epoch seconds) and carry out what comes back.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from dreamer.protocol.ids import NodeId
from dreamer.protocol.limits import (
    CHUNK_BYTES,
    RELAY_ACTIVE_S,
    RELAY_KEPT_DAYS,
    RELAY_RESERVE_BYTES,
)

DAY_S = 24 * 3600.0

BULK_HELD = "bulk_held"
"""Among a node's capabilities: it understands ``messages.BulkHeld``."""


@dataclass(frozen=True)
class Budgets:
    """Bytes that may pass: with one peer in a month, with all in a day, with all in a month."""

    per_peer_bytes: int
    per_day_bytes: int
    per_month_bytes: int


@dataclass(frozen=True)
class Usage:
    """Bytes that passed with one peer on a day (``YYYY-MM-DD``, UTC)."""

    day: str
    peer: NodeId
    size_bytes: int


@dataclass(frozen=True)
class Allow:
    """A link may carry blocks until ``relayed_bytes`` have passed over a relay since it opened."""

    link: int
    relayed_bytes: int


@dataclass(frozen=True)
class Hold:
    """A link's budget is spent: nothing is to be asked or given over its relay."""

    link: int


@dataclass(frozen=True)
class Resume:
    """Blocks may pass again."""

    link: int


Command = Allow | Hold | Resume


def day_of(now: float) -> str:
    """Return the day as ``YYYY-MM-DD`` in UTC; its first 7 letters are the month."""
    return datetime.fromtimestamp(now, UTC).date().isoformat()


def month_of(day: str) -> str:
    """Return the month of a day."""
    return day[:7]


def first_day_kept(now: float) -> str:
    """Return the first day of which anything need be remembered."""
    return day_of(now - RELAY_KEPT_DAYS * DAY_S)


@dataclass
class _Drawing:
    """A link that draws on the budgets. ``total`` counts since it opened; ``allowed`` bounds it."""

    peer: NodeId
    total: int = 0
    allowed: int = 0
    held: bool = False
    moved_at: float = field(default=float("-inf"))


class RelayBudget:
    """The budgets of one node, and every link of its that may meet a relay."""

    def __init__(self, budgets: Budgets, used: Iterable[Usage] = ()) -> None:
        self.budgets = budgets
        self._used = {(each.day, each.peer): each.size_bytes for each in used}
        self._links: dict[int, _Drawing] = {}
        self._today = ""
        self._judged_on = ""
        self._in_day = 0
        self._in_month: dict[NodeId, int] = {}

    def used_in_day(self, now: float) -> int:
        """Return the bytes of this day."""
        self._turn_page(now)
        return self._in_day

    def used_in_month(self, now: float) -> dict[NodeId, int]:
        """Return the bytes of this month by peer."""
        self._turn_page(now)
        return dict(self._in_month)

    def left(self, peer: NodeId, now: float) -> int:
        """Return how many more bytes may pass with a peer."""
        self._turn_page(now)
        return max(0, min(self._left_of_peer(peer), self._left_of_all()))

    def link_up(self, link: int, peer: NodeId, now: float) -> list[Command]:
        """Take note of a link; it may carry nothing over a relay before the Allow."""
        self._turn_page(now)
        drawing = self._links[link] = _Drawing(peer)
        return self._judge(link, drawing, now)

    def link_down(self, link: int) -> None:
        """Forget a link; what it has used stays used."""
        self._links.pop(link, None)

    def counted(self, link: int, total_bytes: int, now: float) -> list[Command]:
        """Take a link's count since it opened."""
        drawing = self._links.get(link)
        if drawing is None:
            return []
        self._turn_page(now)
        # Links that were held for yesterday's sake are judged anew, once, whoever turned the page.
        is_new_day, self._judged_on = self._today != self._judged_on, self._today
        passed = max(0, total_bytes - drawing.total)
        if passed >= CHUNK_BYTES:
            drawing.moved_at = now
        drawing.total += passed
        self._use(drawing.peer, passed)
        return [
            command
            for number, each in self._links.items()
            if is_new_day or not each.held
            for command in self._judge(number, each, now)
        ]

    def add(self, peer: NodeId, size_bytes: int, now: float) -> None:
        """Take bytes of a link that is gone."""
        self._turn_page(now)
        self._use(peer, size_bytes)

    def stopped(self, link: int, now: float) -> list[Command]:
        """A link has stopped by itself, at the count that it was allowed."""
        drawing = self._links.get(link)
        if drawing is None or drawing.held:
            return []
        drawing.held = True
        # It may have been quicker than its reports: then it goes on with a new allowance.
        return [Hold(link), *self._judge(link, drawing, now)]

    def _judge(self, link: int, drawing: _Drawing, now: float) -> list[Command]:
        share = self._share(drawing, now)
        if share < RELAY_RESERVE_BYTES:
            # What is left is too little for a chunk and what surrounds it.
            if drawing.held:
                return []
            drawing.held = True
            return [*self._allow(link, drawing, drawing.total), Hold(link)]
        resumed: list[Command] = [Resume(link)] if drawing.held else []
        drawing.held = False
        return [*self._allow(link, drawing, drawing.total + share), *resumed]

    def _allow(self, link: int, drawing: _Drawing, until: int) -> list[Command]:
        if until == drawing.allowed:
            return []
        drawing.allowed = until
        return [Allow(link, until)]

    def _share(self, drawing: _Drawing, now: float) -> int:
        """Return how many bytes a link may count from here on, others drawing on the same."""
        drawing_now = [
            each
            for each in self._links.values()
            if each is drawing or (not each.held and each.moved_at > now - RELAY_ACTIVE_S)
        ]
        with_peer = sum(each.peer == drawing.peer for each in drawing_now)
        shares = (
            self._left_of_peer(drawing.peer) // with_peer,
            self._left_of_all() // len(drawing_now),
        )
        return min(shares)

    def _left_of_peer(self, peer: NodeId) -> int:
        return self.budgets.per_peer_bytes - self._in_month.get(peer, 0)

    def _left_of_all(self) -> int:
        of_month = self.budgets.per_month_bytes - sum(self._in_month.values())
        return min(of_month, self.budgets.per_day_bytes - self._in_day)

    def _use(self, peer: NodeId, size_bytes: int) -> None:
        key = (self._today, peer)
        self._used[key] = self._used.get(key, 0) + size_bytes
        self._in_day += size_bytes
        self._in_month[peer] = self._in_month.get(peer, 0) + size_bytes

    def _turn_page(self, now: float) -> None:
        """Add up anew when the day is another one."""
        today = day_of(now)
        if today == self._today:
            return
        # Also backwards: a clock that is set right must not give a second budget.
        self._today = today
        oldest = first_day_kept(now)
        self._used = {key: size for key, size in self._used.items() if key[0] >= oldest}
        self._in_day = 0
        self._in_month = {}
        for (day, peer), size_bytes in self._used.items():
            if day == today:
                self._in_day += size_bytes
            if month_of(day) == month_of(today):
                self._in_month[peer] = self._in_month.get(peer, 0) + size_bytes
