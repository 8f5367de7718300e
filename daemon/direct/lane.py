"""The direct lane of one room: brings connections up beside its links, and ends them with these."""

from __future__ import annotations

import asyncio

from dreamer.daemon.direct.giving_side import GivingSide
from dreamer.daemon.direct.room import DirectRoom
from dreamer.daemon.direct.taking_side import TakingSide
from dreamer.daemon.links.link import Link, LinkListener
from dreamer.protocol.limits import DIRECT_REPORT_INTERVAL_S
from dreamer.protocol.link.direct import DIRECT, DirectAnswer, DirectOpen, DirectRetire
from dreamer.protocol.link.messages import Message


class DirectLane(LinkListener):
    """A listener of its room's links; every member that names the capability takes part."""

    def __init__(self, room: DirectRoom) -> None:
        self._room = room
        room.endpoint.listen()
        self._taking: dict[int, TakingSide] = {}
        self._giving: dict[int, GivingSide] = {}
        self._timer: asyncio.TimerHandle | None = None

    def link_up(self, link: Link) -> None:
        """Be there when blocks are wanted over this link."""
        if link.capabilities.get(DIRECT):
            side = self._taking[link.number] = TakingSide(link, self._room)
            link.want_direct = side.want

    def link_down(self, link: Link, reason: str) -> None:
        """End its direct connections: who is no longer linked may be a member no longer."""
        if taking := self._taking.pop(link.number, None):
            taking.close()
        if giving := self._giving.pop(link.number, None):
            giving.close()

    def message(self, link: Link, message: Message) -> None:
        """Take what concerns direct connections.

        Raises:
            RemoteProtocolError: it makes no sense.
        """
        match message:
            case DirectOpen():
                if link.number not in self._giving:
                    self._giving[link.number] = GivingSide(link, self._room)
                self._giving[link.number].asked(message)
                self._keep_counting()
            case DirectAnswer() if side := self._taking.get(link.number):
                side.answered(message)
                self._keep_counting()
            case DirectRetire(attempt) if giving := self._giving.get(link.number):
                giving.retire(attempt)

    def tick(self) -> None:
        """Look for what is due; about once a second."""
        for side in list(self._taking.values()):
            side.tick()

    def close(self) -> None:
        """End everything."""
        for side in self._sides():
            side.close()
        self._taking.clear()
        self._giving.clear()
        if self._timer is not None:
            self._timer.cancel()

    def _sides(self) -> list[TakingSide | GivingSide]:
        return [*self._taking.values(), *self._giving.values()]

    def _keep_counting(self) -> None:
        if self._timer is None:
            self._timer = self._room.loop.call_later(DIRECT_REPORT_INTERVAL_S, self._count)

    def _count(self) -> None:
        self._timer = None
        for side in self._sides():
            side.count()
        if self._taking or self._giving:
            self._keep_counting()
