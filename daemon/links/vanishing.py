"""Linked members that something else than their link says are gone: a tracker, a connection.

A process that is killed leaves its link silent, which is believed only after seconds; but the
kernel closes its connections at once, and a tracker says so. That alone parts nobody, or a tracker
could: the member is asked over the link itself, and given up if it doesn't answer soon.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from dreamer.daemon.links.link import Link, LinkListener
from dreamer.daemon.links.room_links import RoomLinks
from dreamer.protocol.ids import NodeId
from dreamer.protocol.limits import LINK_VANISHED_IDLE_S, LINK_VANISHED_S
from dreamer.protocol.link.messages import Ping

_LOOK_S = 0.25


@dataclass
class _Question:
    """A member was asked whether it is there. ``waited_s`` counts looks, not the clock."""

    asked_at: float
    waited_s: float = 0.0


class Vanishing(LinkListener):
    """A listener of one room's links; ``listener`` says of which members something is awaited.

    ``can_connect`` says whether a member that is given up could be linked again: not while the
    trackers are away, and then it is likelier that this node's own network stalls.
    """

    def __init__(
        self,
        links: RoomLinks,
        listener: LinkListener,
        can_connect: Callable[[], bool],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._links = links
        self._listener = listener
        self._can_connect = can_connect
        self._clock = clock
        self._questions: dict[int, _Question] = {}

    def told(self, peer: NodeId) -> None:
        """Hear that a member is at no tracker any more."""
        if link := self._links.link(peer):
            self.link_doubted(link)

    def link_doubted(self, link: Link) -> None:
        """Ask the member whether it is there; several doubts at once are one question."""
        standing = self._questions.get(link.number)
        if standing is not None and link.heard_at <= standing.asked_at:
            return
        # An answer that came before this doubt says nothing about it: a new question, but the old
        # one's timer looks after it.
        now = self._clock()
        self._questions[link.number] = _Question(now)
        link.send(Ping(int(now * 1e6)))
        if standing is None:
            self._look_later(link)

    def _look_later(self, link: Link) -> None:
        # Often: a daemon that was busy for a second must read what came meanwhile, before it is
        # believed; and something may be asked of the member now.
        asyncio.get_running_loop().call_later(_LOOK_S, self._look, link)

    def _look(self, link: Link) -> None:
        question = self._questions[link.number]
        question.waited_s += _LOOK_S
        if self._is_settled(link, question):
            del self._questions[link.number]
            return
        awaited = self._listener.waits_on(link)
        if question.waited_s < (LINK_VANISHED_S if awaited else LINK_VANISHED_IDLE_S):
            self._look_later(link)
            return
        del self._questions[link.number]
        self._links.drop(link.peer, "it is gone, and does not answer")
        if awaited:
            self._links.connect(link.peer)

    def _is_settled(self, link: Link, question: _Question) -> bool:
        if self._links.link(link.peer) is not link or link.heard_at > question.asked_at:
            return True
        # The link's own silence decides then, which has more patience.
        return not self._can_connect()
