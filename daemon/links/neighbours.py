"""The members this node is linked with, as those who know of others: gossip, carried out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from random import Random

from dreamer.daemon.links.link import Link, LinkListener
from dreamer.daemon.links.room_links import RoomLinks
from dreamer.protocol.canonical import Json
from dreamer.protocol.ids import ManifestId, NodeId
from dreamer.protocol.limits import GOSSIP_MAX_COMING_UP, GOSSIP_SEEK_WAIT_S
from dreamer.protocol.link.gossip import (
    REQUEST_BYTES,
    Deliver,
    Found,
    Gossip,
    GossipCommand,
    Tell,
)
from dreamer.protocol.link.mesh import Mesh
from dreamer.protocol.link.messages import Message


class Neighbours(LinkListener):
    """Gossip over the links of one room, and enough of them to gossip over.

    ``holds`` says whether this node holds or fetches a model, ``deliver`` takes signals that came
    for it. ``wanted`` is how many links are kept up though nothing is exchanged.
    """

    def __init__(
        self,
        ours: NodeId,
        links: RoomLinks,
        holds: Callable[[ManifestId], bool],
        deliver: Callable[[NodeId, Json], None],
        wanted: int,
        rng: Random,
        clock: Callable[[], float],
    ) -> None:
        self._links = links
        self._deliver = deliver
        self._rng = rng
        self._clock = clock
        self._gossip = Gossip(ours, holds)
        self._mesh = Mesh(wanted, rng)
        self._answers: dict[bytes, dict[NodeId, None]] = {}
        self._said: dict[NodeId, Json] = {}

    @property
    def known(self) -> dict[NodeId, Json]:
        """The members that can be reached over links, with what they are said to be capable of."""
        return self._gossip.routes.known()

    def link_up(self, link: Link) -> None:
        """A member more to gossip with."""
        self._note(link)

    def link_down(self, link: Link, reason: str) -> None:
        """One less."""
        self._said.pop(link.peer, None)
        self._gossip.unlinked(link.peer)

    def message(self, link: Link, message: Message) -> None:
        """Take what a neighbour says."""
        self._carry_out(self._gossip.hear(link.peer, message, self._clock()))

    def tick(self, present: Iterable[NodeId]) -> None:
        """Tell the neighbours what is new, and call somebody if the links are too few.

        ``present`` are the members that trackers report; without any, it is those of the gossip,
        first those that a tracker reported once.
        """
        reported = list(present)
        self._gossip.routes.vouch(reported)
        linked = {link.peer: None for link in self._links.links}
        for link in self._links.links:
            self._note(link)
        self._carry_out(self._gossip.tick())
        others = reported or self._gossip.routes.vouched
        if not reported and linked.keys() >= set(others):
            others = list(self.known)
        coming_up = sum(self._links.connecting(peer) for peer in self._mesh.called)
        called = self._mesh.tick(linked, coming_up, others, self._clock())
        if called is not None:
            self._links.connect(called)

    def _note(self, link: Link) -> None:
        # Only if they are others: they may be hundreds of kilobytes, to be encoded each second.
        if self._said.get(link.peer) is not link.capabilities:
            self._said[link.peer] = link.capabilities
            self._gossip.linked(link.peer, link.capabilities)

    def pass_on(self, peer: NodeId, body: Json) -> bool:
        """Send a signal over a neighbour; False: none knows a way."""
        commands = self._gossip.signal(peer, body)
        self._carry_out(commands)
        return bool(commands)

    async def seek(self, manifest_id: ManifestId) -> list[NodeId]:
        """Return the members that hold or fetch a model, as far as the gossip reaches.

        Takes ``GOSSIP_SEEK_WAIT_S``: nobody knows how many answers there will be.
        """
        request = self._rng.randbytes(REQUEST_BYTES)
        commands = self._gossip.seek(request, manifest_id)
        if not commands:
            return []
        found = self._answers[request] = {}
        self._carry_out(commands)
        try:
            await asyncio.sleep(GOSSIP_SEEK_WAIT_S)
        finally:
            del self._answers[request]
        return list(found)

    def _carry_out(self, commands: list[GossipCommand]) -> None:
        for command in commands:
            match command:
                case Tell(peer, message):
                    if link := self._links.link(peer):
                        link.send(message)
                case Deliver(origin, body):
                    self._take_signal(origin, body)
                case Found(request, node):
                    if request in self._answers:
                        self._answers[request][node] = None

    def _take_signal(self, origin: NodeId, body: Json) -> None:
        # Anybody can be named as its origin, and each costs a connection that may never open: what
        # trackers pass on, who know their guests, must find room all the same.
        if self._links.connecting(origin) or len(self._links.coming_up) < GOSSIP_MAX_COMING_UP:
            self._deliver(origin, body)
