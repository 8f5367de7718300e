"""Linked members that something else than their link says are gone: a tracker, a connection.

A process that is killed leaves its link silent, which is believed only after seconds; but the
kernel closes its connections at once, and a tracker says so. That alone parts nobody, or a tracker
could: the member is asked over the link itself, and given up if it doesn't answer soon.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

from dreamer.daemon.links.link import Link, LinkListener
from dreamer.daemon.links.room_links import RoomLinks
from dreamer.protocol.ids import NodeId
from dreamer.protocol.limits import LINK_VANISHED_IDLE_S, LINK_VANISHED_S
from dreamer.protocol.link.messages import Ping

_LOOK_S = 0.25


class Vanishing(LinkListener):
    """A listener of one room's links; ``listener`` says of which members something is awaited."""

    def __init__(
        self,
        links: RoomLinks,
        listener: LinkListener,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._links = links
        self._listener = listener
        self._clock = clock

    def told(self, peer: NodeId) -> None:
        """Hear that a member is at no tracker any more."""
        if link := self._links.link(peer):
            self.link_doubted(link)

    def link_doubted(self, link: Link) -> None:
        """Ask the member whether it is there."""
        now = self._clock()
        link.send(Ping(int(now * 1e6)))
        self._look_later(link, now, 0.0)

    def _look_later(self, link: Link, asked_at: float, waited_s: float) -> None:
        # Often: a daemon that was busy for a second must read what came meanwhile, before it is
        # believed; and something may be asked of the member now.
        loop = asyncio.get_running_loop()
        loop.call_later(_LOOK_S, self._look, link, asked_at, waited_s + _LOOK_S)

    def _look(self, link: Link, asked_at: float, waited_s: float) -> None:
        if self._links.link(link.peer) is not link or link.heard_at > asked_at:
            return
        awaited = self._listener.waits_on(link)
        if waited_s < (LINK_VANISHED_S if awaited else LINK_VANISHED_IDLE_S):
            self._look_later(link, asked_at, waited_s)
            return
        self._links.drop(link.peer, "it is gone, and does not answer")
        if awaited:
            self._links.connect(link.peer)
