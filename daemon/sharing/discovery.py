"""Finds and links the members that hold a model, now and again while a pull goes on.

Whom to link to and when to ask again is decided in ``protocol/swarm/gathering.py``; here are the
trackers and the links.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from dreamer.daemon.links.link import Link
from dreamer.daemon.links.room_links import RoomLinks
from dreamer.protocol.ids import NodeId
from dreamer.protocol.swarm.gathering import Command, Connect, Ended, Gathering, Named, Part, Seek
from dreamer.protocol.swarm.holders import Found

STEP_S = 0.05

Ask = Callable[[], Awaitable[Found]]


@dataclass(frozen=True)
class Onlooker:
    """Who is told what while a pull looks for others, and what is known of its links.

    ``named``: all that hold the model or pull it, whenever somebody was asked. ``ended``: once,
    after at least ``least_s``. ``concerns``: whether a linked member holds or fetches the model,
    or has yet to say. ``unanswered``, ``whole``, ``deserted``: as ``gathering.LinksView`` has it.
    ``part``: give up a link to a member.
    """

    named: Callable[[Named], None] = lambda named: None
    ended: Callable[[], None] = lambda: None
    least_s: float = 0.0
    concerns: Callable[[Link], bool] = lambda link: True
    unanswered: Callable[[], bool] = lambda: False
    whole: Callable[[], list[NodeId]] = list
    deserted: Callable[[], bool] = lambda: False
    part: Callable[[NodeId], None] = lambda node: None


class Discovery:
    """Looks for the holders of one model in one room."""

    def __init__(self, links: RoomLinks, ask: Ask) -> None:
        self._links = links
        self._ask = ask

    async def meet(self, named: Callable[[Named], None] = lambda named: None) -> list[Link]:
        """Link to the holders that can be linked, in a large room to some; return those links.

        Waits until no link is coming up any more, or ``DISCOVERY_MAX_S``.
        """
        heard: dict[NodeId, None] = {}

        def note(holders: Named) -> None:
            heard.update(dict.fromkeys(holders.nodes))
            named(holders)

        search = _Search(self._links, self._ask, Onlooker(named=note))
        await search.run(lambda: search.ended)
        found = (self._links.link(holder) for holder in heard)
        return [link for link in found if link is not None]

    async def keep_meeting(self, onlooker: Onlooker) -> None:
        """Meet, say so once, and look again now and then until cancelled."""
        await _Search(self._links, self._ask, onlooker).run(lambda: False)


@dataclass
class _Search:
    """One search under way: a view of the links for ``Gathering``, and its hands."""

    links: RoomLinks
    ask: Ask
    onlooker: Onlooker
    ended: bool = False
    _asking: asyncio.Future[Found] | None = field(default=None, init=False)

    def linked(self) -> list[NodeId]:
        """Return who is linked that has to do with the model."""
        return [link.peer for link in self.links.links if self.onlooker.concerns(link)]

    def coming_up(self) -> list[NodeId]:
        """Return who is being linked to."""
        return self.links.coming_up

    @property
    def unanswered(self) -> bool:
        """Whether somebody linked has yet to say what it holds."""
        return self.onlooker.unanswered()

    @property
    def whole(self) -> list[NodeId]:
        """Linked members that hold everything."""
        return self.onlooker.whole()

    @property
    def deserted(self) -> bool:
        """Whether the committee brings nothing."""
        return self.onlooker.deserted()

    async def run(self, enough: Callable[[], bool]) -> None:
        """Search until it is enough."""
        loop = asyncio.get_running_loop()
        gathering = Gathering(self.links.own, self.links.rng, loop.time(), self.onlooker.least_s)
        try:
            while True:
                if self._asking is not None and self._asking.done():
                    found, self._asking = self._asking.result(), None
                    answer = (found.nodes, found.committee, loop.time(), found.whole)
                    self._carry_out(gathering.found(*answer))
                self._carry_out(gathering.tick(self, loop.time()))
                if enough():
                    return
                await self._rest(gathering.next_wake(loop.time()) - loop.time())
        finally:
            if self._asking is not None:
                self._asking.cancel()
                await asyncio.gather(self._asking, return_exceptions=True)

    async def _rest(self, delay_s: float) -> None:
        """Wait for an answer, or for what is due next; while links come up, for them."""
        if not self.ended:
            delay_s = min(delay_s, STEP_S)
        if self._asking is not None:
            await asyncio.wait([self._asking], timeout=min(max(delay_s, 0.0), STEP_S))
        else:
            await asyncio.sleep(max(delay_s, 0.0))

    def _carry_out(self, commands: list[Command]) -> None:
        for command in commands:
            match command:
                case Seek():
                    self._asking = asyncio.ensure_future(self.ask())
                case Connect(node):
                    self.links.connect(node)
                case Part(node):
                    self.onlooker.part(node)
                case Named():
                    self.onlooker.named(command)
                case Ended():
                    self.ended = True
                    self.onlooker.ended()
