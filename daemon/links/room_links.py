"""All links of one room: calls peers, answers them, checks who they are, notices when they go.

What is decided stands in ``protocol/link``; this carries it out with the transport process and
a tracker to pass signals through.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from random import Random

from dreamer.daemon.links import bulk_events
from dreamer.daemon.links.attempt import Attempt, TransportPort
from dreamer.daemon.links.doubts import Doubts
from dreamer.daemon.links.ice import Ice
from dreamer.daemon.links.link import Link, LinkListener
from dreamer.daemon.links.meeting import Awaited, Meetings
from dreamer.daemon.transport.vocabulary import (
    Answer,
    CloseLink,
    ControlReceived,
    FromTransport,
    LinkClosed,
    LinkOpened,
    LocalDescription,
    Offer,
    PathChanged,
    SendControl,
    TakeAnswer,
)
from dreamer.protocol.canonical import Json
from dreamer.protocol.errors import DreamerError, ForbiddenError, RemoteProtocolError
from dreamer.protocol.ids import NodeId, short
from dreamer.protocol.limits import (
    LINK_HANDSHAKE_TIMEOUT_S,
    LINKS_MAX_PER_NODE,
)
from dreamer.protocol.link import handshake, messages, negotiation
from dreamer.protocol.link.handshake import Fingerprints, Party, VerifyMember
from dreamer.protocol.link.keepalive import Keepalive, Step
from dreamer.protocol.link.messages import Bye, Capabilities, Hello, Message, Ping, Pong
from dreamer.protocol.link.negotiation import LinkState, Negotiation, NegotiationCommand

log = logging.getLogger(__name__)


class RoomLinks:
    """The links of this node in one room. All calls happen on the daemon's loop."""

    def __init__(
        self,
        party: Party,
        transport: TransportPort,
        verify_member: VerifyMember,
        banned: Callable[[NodeId], bool],
        send_signal: Callable[[NodeId, Json], None],
        listener: LinkListener,
        ice: Ice,
        rng: Random,
        clock: Callable[[], float],
    ) -> None:
        self._party = party
        self._transport = transport
        self._verify_member = verify_member
        self._banned = banned
        self._send_signal = send_signal
        self._listener = listener
        self._ice = ice
        self.rng = rng
        self._clock = clock
        self._negotiations: dict[NodeId, Negotiation] = {}
        self._attempts: dict[int, Attempt] = {}
        self._by_number: dict[int, Link] = {}
        self._by_peer: dict[NodeId, Link] = {}
        self._doubts = Doubts(self._by_peer.get)
        self._keepalive = Keepalive()
        self._closed = False
        self.meetings = Meetings(
            *(party.room, NodeId(party.key.public), self, transport.new_link, transport.send),
            ice=ice,
            clock=clock,
        )

    @property
    def links(self) -> list[Link]:
        """The links that stand, in the order they came up."""
        return list(self._by_peer.values())

    def link(self, peer: NodeId) -> Link | None:
        """Return the link to a peer."""
        return self._by_peer.get(peer)

    @property
    def closed(self) -> bool:
        """Whether no link will come up any more, for this node has left the room or stops."""
        return self._closed

    @property
    def own(self) -> NodeId:
        """This node."""
        return NodeId(self._party.key.public)

    @property
    def coming_up(self) -> list[NodeId]:
        """To whom links are coming up."""
        return [peer for peer in self._negotiations if self.connecting(peer)]

    def connecting(self, peer: NodeId) -> bool:
        """Return whether a link to this peer is coming up."""
        found = self._negotiations.get(peer)
        return found is not None and found.state not in (LinkState.IDLE, LinkState.OPEN)

    def banned(self, peer: NodeId) -> bool:
        """Return whether a node is not to be dealt with."""
        return self._banned(peer)

    def crowded(self) -> bool:
        """Return whether there are as many links as there may be."""
        return len(self._by_peer) + len(self._attempts) >= LINKS_MAX_PER_NODE

    def adopt(self, opened: LinkOpened, awaited: Awaited) -> None:
        """Go on with a connection that people arranged: both ends prove who they are."""
        assert awaited.peer is not None, "nobody opens a connection that was not answered"
        attempt = Attempt(opened.link, awaited.peer, 0, "meeting", awaited=awaited)
        self._attempts[attempt.number] = attempt
        self.transport_event(opened)

    def connect(self, peer: NodeId) -> None:
        """Bring up a link unless it stands, is coming up, is banned, or there are too many."""
        if self._may_link(peer):
            self._carry_out(peer, self._negotiation(peer).want(self._clock()))

    def signal_received(self, peer: NodeId, body: Json) -> None:
        """Take a signal that a tracker passed on."""
        if not self._may_link(peer):
            return
        link = self._by_peer.get(peer)
        if link is not None and body.get("kind") != "answer":
            self._doubts.add(link, body, self._clock())
            return
        self._take_signal(peer, body)

    def _take_signal(self, peer: NodeId, body: Json) -> None:
        try:
            self._carry_out(peer, self._negotiation(peer).receive(body, self._clock()))
        except RemoteProtocolError as error:
            log.info("ignored a signal from %s: %s", short(peer), error)

    def unreachable(self, peer: NodeId) -> None:
        """Note that a tracker could not pass a signal to this peer."""
        found = self._negotiations.get(peer)
        if found is not None and found.state is not LinkState.OPEN:
            self._carry_out(peer, found.failed(found.attempt))

    def update_capabilities(self, data: bytes) -> None:
        """Tell every peer what this node can do now."""
        self._party = handshake.Party(self._party.room, self._party.key, self._party.chain, data)
        for link in self.links:
            link.send(Capabilities(data))

    def drop(self, peer: NodeId, reason: str) -> None:
        """Close the link to a peer."""
        if link := self._by_peer.get(peer):
            link.send(Bye(reason))
            self._lose(link.number, reason)
            self._transport.send(CloseLink(link.number))

    def close(self) -> None:
        """Close every link with a Bye; none comes up any more."""
        self._closed = True
        self.meetings.close()
        for link in self.links:
            self.drop(link.peer, "this node is stopping")
        for attempt in self._attempts.values():
            self._transport.send(CloseLink(attempt.number))
            if attempt.awaited is not None:
                attempt.awaited.failed("this node is leaving the room or stopping")
        self._attempts.clear()

    def owns(self, number: int) -> bool:
        """Return whether a transport event about this link is for this room."""
        standing = number in self._attempts or number in self._by_number
        return standing or self.meetings.owns(number)

    def tick(self) -> None:
        """Let what takes too long fail, and ask quiet peers whether they are there."""
        now = self._clock()
        for peer, body in self._doubts.settle(now):
            self._take_signal(peer, body)
        self.meetings.tick()
        for peer, found in list(self._negotiations.items()):
            self._carry_out(peer, found.tick(now))
            if found.state is LinkState.IDLE:
                # Whoever can signal could otherwise have us remember any number of names.
                self._negotiations.pop(peer, None)
        for attempt in list(self._attempts.values()):
            if now >= attempt.deadline:
                self._fail(attempt.number, "the peer did not prove who it is in time")
        self._ask_the_quiet(now)

    def woke(self) -> None:
        """Note that this machine has slept: what stood before has yet to prove that it stands."""
        self._keepalive.woke(self._clock())

    def _ask_the_quiet(self, now: float) -> None:
        self._keepalive.tick(now)
        for link in self.links:
            wanted = self._listener.waits_on(link)
            match self._keepalive.step(link.heard_at, link.pinged_at, wanted, now):
                case Step.ASK:
                    link.pinged_at = now
                    link.send(Ping(int(now * 1e6)))
                case Step.LOSE:
                    self.drop(link.peer, "nothing was heard from it")
                    if wanted:
                        self.connect(link.peer)

    # From the transport process

    def transport_event(self, event: FromTransport) -> None:
        """Take an event about a link of this room."""
        if self.meetings.owns(event.link):
            self.meetings.transport_event(event)
            return
        match event:
            case LocalDescription(number, sdp) if attempt := self._attempts.get(number):
                body = negotiation.signal(attempt.kind, attempt.attempt, sdp)
                self._send_signal(attempt.peer, body)
            case LinkOpened(number, ours, theirs, relayed):
                self._opened(number, Fingerprints(ours, theirs), relayed)
            case PathChanged(number, relayed) if attempt := self._attempts.get(number):
                attempt.relayed = relayed
            case LinkClosed(number, reason, fault):
                link = self._by_number.get(number)
                wanted = link is not None and not fault and self._listener.waits_on(link)
                self._fail(number, reason)
                if link is not None and wanted:
                    # Nobody parted on purpose: a pull goes on as soon as there is a way again.
                    self.connect(link.peer)
            case ControlReceived(number, data):
                self._control(number, data)
            case _:
                if link := self._by_number.get(event.link):
                    bulk_events.tell(self._listener, link, event, self._clock())

    def _opened(self, number: int, seen: Fingerprints, relayed: bool) -> None:
        if attempt := self._attempts.get(number):
            attempt.seen, attempt.relayed = seen, relayed
            attempt.deadline = self._clock() + LINK_HANDSHAKE_TIMEOUT_S
            proof = handshake.hello(self._party, attempt.peer, seen)
            self._transport.send(SendControl(number, messages.encode(proof)))

    def _control(self, number: int, data: bytes) -> None:
        try:
            message = messages.decode(data)
            if link := self._by_number.get(number):
                link.heard_at = self._clock()
                self._message(link, message)
            elif attempt := self._attempts.get(number):
                self._authenticate(attempt, message)
        except DreamerError as error:
            # Whatever a message leads to may cost its link, never the node.
            log.warning("closing a link: %s", error)
            self._fail(number, str(error))
            self._transport.send(CloseLink(number))

    def _authenticate(self, attempt: Attempt, message: Message) -> None:
        if not isinstance(message, Hello) or attempt.seen is None:
            raise RemoteProtocolError("it talks before it has said who it is")
        if self._banned(attempt.peer):
            raise ForbiddenError("it was banned while the link came up")
        found = handshake.accept(
            self._party, attempt.peer, attempt.seen, message, self._verify_member
        )
        del self._attempts[attempt.number]
        if not self._agreed(attempt):
            self._transport.send(CloseLink(attempt.number))
            return
        link = Link(
            number=attempt.number,
            room=self._party.room,
            peer=attempt.peer,
            relayed=attempt.relayed,
            capabilities=found,
            pass_on=self._transport.send,
            heard_at=self._clock(),
        )
        self._by_number[link.number] = self._by_peer[link.peer] = link
        log.info("linked to %s %s (%s)", short(link.peer), link.name, link.lane.value)
        self._listener.link_up(link)
        if attempt.awaited is not None:
            attempt.awaited.linked(link)

    def _agreed(self, attempt: Attempt) -> bool:
        """Return whether this is the connection that the two of us are to have."""
        agreement = self._negotiation(attempt.peer)
        if attempt.awaited is None:
            return agreement.opened(attempt.attempt)
        if attempt.peer in self._by_peer:
            attempt.awaited.failed("another link to it has come up meanwhile: see 'dreamer peers'")
            return False
        self._carry_out(attempt.peer, agreement.met())
        return True

    def _message(self, link: Link, message: Message) -> None:
        match message:
            case Ping(sent_us):
                link.send(Pong(sent_us))
            case Pong(sent_us):
                link.rtt_s = max(0.0, self._clock() - sent_us / 1e6)
            case Bye(reason):
                self._fail(link.number, reason[:200])
                self._transport.send(CloseLink(link.number))
            case Capabilities(data):
                link.capabilities = handshake.capabilities(data)
            case Hello():
                raise RemoteProtocolError("it says hello twice")
            case _:
                self._listener.message(link, message)

    # Carrying out

    def _may_link(self, peer: NodeId) -> bool:
        if self._closed or peer == self._party.key.public or self._banned(peer):
            return False
        found = self._negotiations.get(peer)
        under_way = found is not None and found.state is not LinkState.IDLE
        return under_way or not self.crowded()

    def _negotiation(self, peer: NodeId) -> Negotiation:
        if peer not in self._negotiations:
            ours = NodeId(self._party.key.public)
            first = self.rng.randrange(1 << 31)
            self._negotiations[peer] = Negotiation(ours, peer, first)
        return self._negotiations[peer]

    def _carry_out(self, peer: NodeId, commands: list[NegotiationCommand]) -> None:
        for command in commands:
            match command:
                case negotiation.SendSignal(body):
                    self._send_signal(peer, body)
                case negotiation.MakeOffer(attempt):
                    number = self._begin(peer, attempt, "offer")
                    ice = (list(self._ice.servers), self._ice.relay_only)
                    self._transport.send(Offer(number, *ice, relays=self._ice.relays))
                case negotiation.MakeAnswer(attempt, sdp):
                    number = self._begin(peer, attempt, "answer")
                    ice = (list(self._ice.servers), self._ice.relay_only)
                    self._transport.send(Answer(number, sdp, *ice, relays=self._ice.relays))
                case negotiation.TakeAnswer(attempt, sdp):
                    for found in self._attempts_of(peer, attempt):
                        self._transport.send(TakeAnswer(found.number, sdp))
                case negotiation.CloseOld(attempt):
                    self._close_old(peer, attempt)

    def _begin(self, peer: NodeId, attempt: int, kind: str) -> int:
        number = self._transport.new_link()
        self._attempts[number] = Attempt(number, peer, attempt, kind)
        return number

    def _attempts_of(self, peer: NodeId, attempt: int) -> list[Attempt]:
        return [a for a in self._attempts.values() if (a.peer, a.attempt) == (peer, attempt)]

    def _close_old(self, peer: NodeId, attempt: int) -> None:
        for found in self._attempts_of(peer, attempt):
            del self._attempts[found.number]
            self._transport.send(CloseLink(found.number))
        if link := self._by_peer.get(peer):
            self._forget(link, "the peer links anew")
            self._transport.send(CloseLink(link.number))

    def _fail(self, number: int, reason: str) -> None:
        """An attempt came to nothing, or a link was lost."""
        if attempt := self._attempts.pop(number, None):
            self._transport.send(CloseLink(number))
            log.info("no link to %s: %s", short(attempt.peer), reason)
            if attempt.awaited is not None:
                attempt.awaited.failed(reason)
                return
            self._carry_out(attempt.peer, self._negotiation(attempt.peer).failed(attempt.attempt))
        else:
            self._lose(number, reason)

    def _lose(self, number: int, reason: str) -> None:
        if link := self._by_number.get(number):
            self._forget(link, reason)
            found = self._negotiation(link.peer)
            found.failed(found.attempt)

    def _forget(self, link: Link, reason: str) -> None:
        del self._by_number[link.number]
        del self._by_peer[link.peer]
        log.info("lost the link to %s: %s", short(link.peer), reason)
        self._listener.link_down(link, reason)
