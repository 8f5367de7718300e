"""What passes over relays (TURN), of all links of this node: counted, recorded, and bounded.

The decisions are ``protocol.relay_budget``'s. The transport process counts and stops blocks by
itself at what it was allowed; this tells it how much that is, and the others what follows: pulls
ask elsewhere, what was promised is refused, and the peer hears that nothing more will come.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Protocol

from dreamer.daemon.links.link import Link, LinkListener
from dreamer.daemon.state import State
from dreamer.daemon.transport.vocabulary import (
    AllowBulk,
    BulkHeld,
    FromTransport,
    LinkClosed,
    PathChanged,
    Relayed,
    ToTransport,
)
from dreamer.protocol.canonical import Json
from dreamer.protocol.errors import LocalError
from dreamer.protocol.ids import NodeId, RoomId, short
from dreamer.protocol.limits import RELAY_LINKS_REMEMBERED
from dreamer.protocol.link import messages
from dreamer.protocol.link.messages import Message
from dreamer.protocol.relay_budget import (
    BULK_HELD,
    Allow,
    Budgets,
    Command,
    Hold,
    RelayBudget,
    Resume,
    Usage,
    day_of,
    first_day_kept,
)

log = logging.getLogger(__name__)


class RelayRecord(Protocol):
    """Where counts are kept over a restart (``State``)."""

    def add_relayed(self, passed: Usage) -> None:
        """Add bytes to those of a peer and a day."""
        ...


@dataclass
class _Watched:
    """A link and its room. ``ours`` and ``theirs``: which end says that its budget is spent.

    ``told`` is what the peer heard of ours last; ``up`` is False when only a last count may come.
    """

    link: Link
    room: RoomRelays
    total: int = 0
    own: int = 0
    ours: bool = False
    theirs: bool = False
    told: bool = False
    up: bool = True


class RoomRelays(LinkListener):
    """The links of one room, which may meet relays."""

    def __init__(
        self, relays: Relays, room: LinkListener, punish: Callable[[NodeId, str], None]
    ) -> None:
        self.room = room
        self.punish = punish
        self._relays = relays

    def link_up(self, link: Link) -> None:
        """Let a link carry what the budgets leave."""
        self._relays.link_up(link, self)

    def link_down(self, link: Link, reason: str) -> None:
        """Do without a link."""
        self._relays.link_down(link)

    def message(self, link: Link, message: Message) -> None:
        """Take the peer's word that its budget is spent, or is not any more."""
        if isinstance(message, messages.BulkHeld):
            self._relays.peer_says(link, message.held)


class Relays:
    """Every link of a node. ``send`` reaches the transport process; ``wall``: epoch seconds."""

    def __init__(
        self,
        budget: RelayBudget,
        record: RelayRecord,
        send: Callable[[ToTransport], None],
        wall: Callable[[], float] = time.time,
    ) -> None:
        self.budget = budget
        self._record = record
        self._send = send
        self._wall = wall
        self._links: dict[int, _Watched] = {}
        # Bytes that could not be written down yet, by day and peer.
        self._unwritten: dict[tuple[str, NodeId], int] = {}
        self._complained = False
        self.paid: Callable[[RoomId, int], None] = lambda room, size_bytes: None
        """Told what passed over this node's own TURN allocations, by room."""

    @classmethod
    def load(cls, budgets: Budgets, state: State, send: Callable[[ToTransport], None]) -> Relays:
        """Go on with what has passed before this start.

        Raises:
            LocalError: the record can't be read.
        """
        used = state.relayed(first_day_kept(time.time()))
        return cls(RelayBudget(budgets, used), state, send)

    def status(self, names: Callable[[NodeId], str]) -> Json:
        """Return budgets, what is used of them, and every peer of this month, for JSON."""
        now, budgets = self._wall(), self.budget.budgets
        month = self.budget.used_in_month(now)
        standing = [watched.link for watched in self._links.values() if watched.up]
        relayed = {link.peer for link in standing if link.relayed}
        spent = {link.peer for link in standing if link.spent}
        return {
            "day_bytes": self.budget.used_in_day(now),
            "month_bytes": sum(month.values()),
            "budget_bytes": asdict(budgets),
            "peers": [
                {
                    "node_id": peer.hex(),
                    "name": names(peer),
                    "month_bytes": month.get(peer, 0),
                    "left_bytes": self.budget.left(peer, now),
                    "relayed": peer in relayed,
                    "spent": peer in spent,
                }
                for peer in sorted({*month, *relayed})
            ],
        }

    def in_room(self, room: LinkListener, punish: Callable[[NodeId, str], None]) -> RoomRelays:
        """Return the listener for a room's links; ``room`` is told of lanes that change."""
        return RoomRelays(self, room, punish)

    # What links say

    def link_up(self, link: Link, room: RoomRelays) -> None:
        """Take note of a link."""
        self._forget_the_oldest_gone()
        self._links[link.number] = _Watched(link, room)
        self._perform(self.budget.link_up(link.number, link.peer, self._wall()))

    def link_down(self, link: Link) -> None:
        """Let a link draw on the budgets no more; its last count may still come in."""
        self.budget.link_down(link.number)
        if (watched := self._links.pop(link.number, None)) is not None:
            watched.up = False
            # The first are forgotten first, and those that stand last.
            self._links = {link.number: watched, **self._links}

    def peer_says(self, link: Link, held: bool) -> None:
        """Note whether the peer's budget is spent."""
        watched = self._links.get(link.number)
        if watched is not None and watched.theirs != held:
            watched.theirs = held
            self._heed(watched)

    def transport_event(self, event: FromTransport) -> None:
        """Take what the transport process reports of any link."""
        watched = self._links.get(event.link)
        if watched is None:
            return
        match event:
            case Relayed(number, down, up, own):
                self._count(number, watched, down + up)
                self._pay(watched, own)
            case BulkHeld(number):
                self._perform(self.budget.stopped(number, self._wall()))
            case PathChanged(_, relayed) if watched.up:
                watched.link.relayed = relayed
                log.info("the link to %s has moved: relayed=%s", short(watched.link.peer), relayed)
                self._heed(watched, moved=True)
            case LinkClosed(_, reason, fault) if fault and watched.ours and watched.link.relayed:
                # By linking anew it could have as much again relayed, and again.
                watched.room.punish(watched.link.peer, reason.removeprefix("it "))

    def _count(self, number: int, watched: _Watched, total: int) -> None:
        now = self._wall()
        passed, watched.total = total - watched.total, total
        self._write(day_of(now), watched.link.peer, passed)
        if watched.up:
            self._perform(self.budget.counted(number, total, now))
        else:
            self.budget.add(watched.link.peer, passed, now)

    def _pay(self, watched: _Watched, own: int) -> None:
        paid, watched.own = own - watched.own, own
        self.paid(watched.link.room, paid)

    def _write(self, day: str, peer: NodeId, size_bytes: int) -> None:
        """Record bytes at once: what a crash loses is what the transport has not reported yet."""
        key = (day, peer)
        self._unwritten[key] = self._unwritten.get(key, 0) + size_bytes
        try:
            for (each_day, each_peer), size in list(self._unwritten.items()):
                self._record.add_relayed(Usage(each_day, each_peer, size))
                del self._unwritten[each_day, each_peer]
            self._complained = False
        except LocalError as error:
            if not self._complained:
                log.error("relayed bytes are kept in memory until they can be recorded: %s", error)
            self._complained = True

    def _perform(self, commands: list[Command]) -> None:
        for command in commands:
            watched = self._links[command.link]
            match command:
                case Allow(number, relayed_bytes):
                    self._send(AllowBulk(number, relayed_bytes))
                case Hold():
                    self._set_ours(watched, True)
                case Resume():
                    self._set_ours(watched, False)

    def _set_ours(self, watched: _Watched, held: bool) -> None:
        watched.ours = held
        if watched.link.relayed:
            said = "used up its budget: its blocks go elsewhere" if held else "has a budget again"
            log.warning("the relay to %s %s", short(watched.link.peer), said)
        self._heed(watched)

    def _heed(self, watched: _Watched, moved: bool = False) -> None:
        """Have the peer and everybody here know whether the link's own channel may be used."""
        link = watched.link
        ours = link.relayed and watched.ours
        if ours != watched.told and BULK_HELD in link.capabilities:
            watched.told = ours
            link.send(messages.BulkHeld(ours))
        # The peer may see a relay where this end sees none: its word counts as it is.
        spent = ours or watched.theirs
        if moved or spent != link.bulk_spent:
            link.bulk_spent = spent
            watched.room.room.lane_changed(link)

    def _forget_the_oldest_gone(self) -> None:
        # Those that stand stay, however many: what is not counted knows no budget.
        while len(self._links) >= RELAY_LINKS_REMEMBERED:
            number, oldest = next(iter(self._links.items()))
            if oldest.up:
                return
            del self._links[number]
