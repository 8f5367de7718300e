"""Links arranged by two texts that a person carries, where no tracker passes signals on.

One node makes an offer and waits for minutes; the other answers it and waits in its turn. Once
the connection is open it is handed to ``RoomLinks``, where both prove who they are as on any link.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from dreamer.daemon.links.ice import Ice
from dreamer.daemon.links.link import Link
from dreamer.daemon.transport.vocabulary import (
    Answer,
    CloseLink,
    FromTransport,
    LinkClosed,
    LinkOpened,
    LocalDescription,
    Offer,
    TakeAnswer,
    ToTransport,
)
from dreamer.protocol.errors import ForbiddenError, InputError, LocalError, RemoteError
from dreamer.protocol.ids import NodeId, RoomId, short
from dreamer.protocol.limits import (
    CLOCK_SKEW_S,
    CONNECT_DESCRIBE_TIMEOUT_S,
    CONNECT_MAX_WAITING,
    CONNECT_OFFER_TTL_S,
    CONNECT_OPEN_TIMEOUT_S,
    LINKS_MAX_PER_NODE,
)
from dreamer.protocol.link import description, meeting
from dreamer.protocol.link.description import Description, Setup

log = logging.getLogger(__name__)

NOT_LINKED = "the two machines could not reach each other"


class MeetingPort(Protocol):
    """What meetings need of the room's links (``RoomLinks``)."""

    def link(self, peer: NodeId) -> Link | None:
        """Return the link to a peer."""
        ...

    def banned(self, peer: NodeId) -> bool:
        """Return whether a node is not to be dealt with."""
        ...

    def crowded(self) -> bool:
        """Return whether there are as many links as there may be."""
        ...

    def adopt(self, opened: LinkOpened, awaited: Awaited) -> None:
        """Let both ends of an open connection prove who they are; tell ``awaited`` the outcome."""
        ...


@dataclass
class Awaited:
    """A connection of ours that waits for the other end. ``deadline`` is of the daemon's clock."""

    number: int
    deadline: float
    peer: NodeId | None = None
    mark: bytes = b""
    text: str = ""
    opened: bool = False
    described: asyncio.Future[Description] = field(default_factory=asyncio.Future)
    ended: asyncio.Future[Link | str] = field(default_factory=asyncio.Future)

    def linked(self, link: Link) -> None:
        """The peer has proved itself."""
        if not self.ended.done():
            self.ended.set_result(link)

    def failed(self, reason: str) -> None:
        """Nothing came of it."""
        if not self.described.done():
            self.described.set_exception(LocalError(f"no connection could be offered: {reason}"))
        if not self.ended.done():
            self.ended.set_result(reason)


class Meetings:
    """One room's meetings. ``clock`` is monotonic, ``wall`` tells seconds since the epoch."""

    def __init__(
        self,
        room: RoomId,
        node: NodeId,
        links: MeetingPort,
        new_link: Callable[[], int],
        send: Callable[[ToTransport], None],
        ice: Ice,
        clock: Callable[[], float],
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._room = room
        self._node = node
        self._links = links
        self._new_link = new_link
        self._send = send
        self._ice = ice
        self._clock = clock
        self._wall = wall
        self._awaited: dict[int, Awaited] = {}

    def owns(self, number: int) -> bool:
        """Return whether a transport event about this link is for us."""
        return number in self._awaited

    def awaits(self, mark: bytes) -> bool:
        """Return whether the offer with this mark waits here for its answer."""
        return any(one.mark == mark and one.peer is None for one in self._awaited.values())

    async def offer(self) -> str:
        """Return the text of a new offer, which waits for ``CONNECT_OFFER_TTL_S``.

        Raises:
            LocalError: this machine has no address, or its transport does not work.
        """
        self._make_room()
        awaited = self._await(CONNECT_OFFER_TTL_S)
        ice = (list(self._ice.servers), self._ice.relay_only)
        self._send(Offer(awaited.number, *ice, patient=True, relays=self._ice.relays))
        described = await self._description(awaited)
        expires = int(self._wall() + CONNECT_OFFER_TTL_S)
        made = meeting.Offer(meeting.hint_of(self._room), self._node, expires, described)
        awaited.mark = made.mark
        return meeting.encode(made)

    async def answer(self, offer: meeting.Offer) -> str:
        """Return the text that answers an offer; the same one when it is asked for again.

        Raises:
            InputError: the offer is this node's own, has expired, or the two are linked.
            ForbiddenError: its node is banned.
            LocalError: this machine has no address, or its transport does not work.
        """
        remaining_s = self._judge(offer)
        for known in list(self._awaited.values()):
            if known.mark == offer.mark and known.text:
                return known.text
            if known.peer == offer.node:
                # It has made a new offer: the other answer leads nowhere any more.
                self._end(known, "the peer has made another offer")
        self._make_room()
        awaited = self._await(remaining_s + CONNECT_OPEN_TIMEOUT_S)
        awaited.peer, awaited.mark = offer.node, offer.mark
        sdp = offer.description.sdp(Setup.OFFER)
        ice = (list(self._ice.servers), self._ice.relay_only)
        self._send(Answer(awaited.number, sdp, *ice, patient=True, relays=self._ice.relays))
        described = await self._description(awaited)
        to = offer.node[: meeting.NODE_HINT_BYTES]
        hint = meeting.hint_of(self._room)
        made = meeting.Answer(hint, self._node, offer.mark, to, described)
        awaited.text = meeting.encode(made)
        return awaited.text

    async def complete(self, answer: meeting.Answer) -> Link:
        """Return the link that an answer to one of our offers leads to.

        Raises:
            InputError: it answers no offer that waits here, or the two are linked.
            ForbiddenError: its node is banned.
            RemoteError: the two can't reach each other, or the other end is no member.
        """
        self._refuse(answer.node)
        awaited = next((one for one in self._awaited.values() if one.mark == answer.mark), None)
        if awaited is None or answer.room_hint != meeting.hint_of(self._room):
            raise InputError(
                "the offer that this answers no longer waits here: make a new one with "
                "'dreamer connect --offer'"
            )
        if awaited.peer is not None:
            raise InputError("this offer has an answer already, and is linking")
        awaited.peer = answer.node
        awaited.deadline = self._clock() + CONNECT_OPEN_TIMEOUT_S
        self._send(TakeAnswer(awaited.number, answer.description.sdp(Setup.ANSWER)))
        outcome = await asyncio.shield(awaited.ended)
        if isinstance(outcome, Link):
            return outcome
        if awaited.opened:
            # They reached each other, and one would not have the other: no network is to blame.
            raise RemoteError(f"no link to {short(answer.node)}: {outcome}")
        raise RemoteError(
            f"no link to {short(answer.node)}: {outcome}; begin again with a new offer, and if the "
            "two are in different networks, name a STUN or TURN server in [network] of both"
        )

    def transport_event(self, event: FromTransport) -> None:
        """Take an event about a connection of ours that is not open yet."""
        awaited = self._awaited[event.link]
        match event:
            case LocalDescription(_, sdp) if not awaited.described.done():
                awaited.described.set_result(description.reduce(sdp))
            case LinkOpened():
                del self._awaited[event.link]
                awaited.opened = True
                self._links.adopt(event, awaited)
            case LinkClosed(_, reason, _):
                self._end(awaited, reason)

    def tick(self) -> None:
        """Give up what has waited long enough."""
        for awaited in list(self._awaited.values()):
            if self._clock() >= awaited.deadline:
                self._end(awaited, NOT_LINKED if awaited.peer else "no answer came in time")

    def close(self) -> None:
        """Wait for nobody any more."""
        for awaited in list(self._awaited.values()):
            self._end(awaited, "this node is leaving the room or stopping")

    def _judge(self, offer: meeting.Offer) -> float:
        """Return for how many seconds an offer still waits."""
        if offer.node == self._node:
            raise InputError("this is this node's own offer: give it to the other machine")
        self._refuse(offer.node)
        remaining_s = offer.expires + CLOCK_SKEW_S - self._wall()
        if remaining_s <= 0:
            raise InputError(
                "this offer has expired: make a new one with 'dreamer connect --offer'; if it is "
                "new, set the clocks of the two machines"
            )
        return min(remaining_s, CONNECT_OFFER_TTL_S)

    def _refuse(self, peer: NodeId) -> None:
        if peer == self._node:
            raise InputError("this text was made on this machine: it is for the other one")
        if self._links.banned(peer):
            raise ForbiddenError(
                f"node {short(peer)} was removed from this room, or is banned here for a while for "
                "sending bad data"
            )
        if self._links.link(peer) is not None:
            raise InputError(f"this node is linked to {short(peer)} already: see 'dreamer peers'")

    def _make_room(self) -> None:
        if self._links.crowded():
            raise LocalError(f"this node has {LINKS_MAX_PER_NODE} links, as many as it may have")
        # Each holds sockets; the oldest is the one least likely to be on anybody's screen.
        while len(self._awaited) >= CONNECT_MAX_WAITING:
            self._end(next(iter(self._awaited.values())), "newer offers have taken its place")

    def _await(self, seconds: float) -> Awaited:
        awaited = Awaited(self._new_link(), self._clock() + seconds)
        self._awaited[awaited.number] = awaited
        return awaited

    async def _description(self, awaited: Awaited) -> Description:
        try:
            async with asyncio.timeout(CONNECT_DESCRIBE_TIMEOUT_S):
                found = await awaited.described
            if not found.candidates:
                raise LocalError(
                    "this machine has no network address at which another could reach it"
                )
        except TimeoutError:
            self._end(awaited, "it took too long")
            raise LocalError("the STUN or TURN servers of [network] do not answer") from None
        except BaseException as error:
            self._end(awaited, str(error))
            raise
        return found

    def _end(self, awaited: Awaited, reason: str) -> None:
        if self._awaited.pop(awaited.number, None) is None:
            return
        self._send(CloseLink(awaited.number))
        who = short(awaited.peer) if awaited.peer else "an offer"
        log.info("nothing came of meeting %s: %s", who, reason)
        awaited.failed(reason)
