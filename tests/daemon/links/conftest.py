"""Rooms of real members on a wire in memory: keys, chains and handshakes are the real ones."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from random import Random

import pytest
from blake3 import blake3

from dreamer.daemon.links.ice import IceSettings
from dreamer.daemon.links.link import Link, LinkListener
from dreamer.daemon.links.room_links import RoomLinks
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
    ToTransport,
)
from dreamer.protocol import canonical
from dreamer.protocol.canonical import Json
from dreamer.protocol.ids import NodeId, RoomId
from dreamer.protocol.link.description import Candidate, CandidateKind, Description, Setup
from dreamer.protocol.link.handshake import Party
from dreamer.protocol.link.messages import Message, encode
from dreamer.protocol.rooms.certificate import invitation, node_certificate
from dreamer.protocol.rooms.keys import SigningKey
from dreamer.protocol.rooms.membership import Chain, chain_to_json, parse_chain, verify_chain

NOW = 1_800_000_000.0
ROOM_KEY = SigningKey(b"\1" * 32)
ROOM = RoomId(ROOM_KEY.public)


@dataclass
class End:
    """One end of a peer connection."""

    transport: WiredTransport
    link: int
    remote: End | None = None
    open: bool = False

    @property
    def description(self) -> str:
        """A real one, so that it can also be carried as text."""
        address = Candidate(CandidateKind.HOST, IPv4Address("192.0.2.1"), self.link)
        return Description("abcd", "x" * 22, self.fingerprint, (address,)).sdp(Setup.OFFER)

    @property
    def fingerprint(self) -> bytes:
        return blake3(f"{self.transport.name}/{self.link}".encode()).digest()


class Wire:
    """Every peer connection, and what is on its way; nothing happens until ``settle``."""

    def __init__(self) -> None:
        self.ends: dict[str, End] = {}
        self.relayed = False
        # Which path links move to as soon as they are open.
        self.moved: bool | None = None
        self._pending: deque[Callable[[], None]] = deque()

    def later(self, happen: Callable[[], None]) -> None:
        self._pending.append(happen)

    def settle(self) -> None:
        for _ in range(10_000):
            if not self._pending:
                return
            self._pending.popleft()()
        raise AssertionError("it never settles")

    def end(self, sdp: str) -> End | None:
        """Return who described itself so; an answer that went as text is built up anew."""
        return self.ends.get(sdp.replace("a=setup:active", "a=setup:actpass"))

    def join(self, one: End, other: End) -> None:
        for mine, theirs in ((one, other), (other, one)):
            mine.remote, mine.open = theirs, True
            mine.transport.tell(
                LinkOpened(mine.link, mine.fingerprint, theirs.fingerprint, self.relayed)
            )
            if self.moved is not None:
                mine.transport.tell(PathChanged(mine.link, self.moved))


class WiredTransport:
    """A TransportPort; ``on_event`` takes what comes back."""

    def __init__(self, wire: Wire, name: str) -> None:
        self.name = name
        self.on_event: Callable[[FromTransport], None] = lambda event: None
        self.commands: list[ToTransport] = []
        self._wire = wire
        self._ends: dict[int, End] = {}
        self._last = 0

    def new_link(self) -> int:
        self._last += 1
        return self._last

    def tell(self, event: FromTransport) -> None:
        self._wire.later(lambda: self.on_event(event))

    def send(self, command: ToTransport, /) -> None:
        self.commands.append(command)
        self._wire.later(lambda: self._perform(command))

    def crash(self) -> None:
        """End without a word to this side; the other side notices."""
        for link in list(self._ends):
            self._perform(CloseLink(link))

    def _perform(self, command: ToTransport) -> None:
        match command:
            case Offer(link):
                self._describe(link)
            case Answer(link, sdp):
                self._describe(link).remote = self._wire.end(sdp)
            case TakeAnswer(link, sdp):
                self._meet(self._ends.get(link), self._wire.end(sdp))
            case SendControl(link, data) if (end := self._ends.get(link)) and end.open:
                assert end.remote is not None
                end.remote.transport.tell(ControlReceived(end.remote.link, data))
            case CloseLink(link) if end := self._ends.pop(link, None):
                if end.open and end.remote is not None and end.remote.open:
                    end.remote.open = False
                    end.remote.transport.tell(LinkClosed(end.remote.link, "closed", False))
                end.open = False

    def _describe(self, link: int) -> End:
        end = self._ends[link] = End(self, link)
        self._wire.ends[end.description] = end
        self.tell(LocalDescription(link, end.description))
        return end

    def _meet(self, ours: End | None, theirs: End | None) -> None:
        if ours is not None and theirs is not None and theirs.remote is ours:
            self._wire.join(ours, theirs)


class Heard(LinkListener):
    """Everything that happened on a node's links."""

    def __init__(self) -> None:
        self.up: list[Link] = []
        self.down: list[str] = []
        self.messages: list[Message] = []
        self.waiting = False

    def waits_on(self, link: Link) -> bool:
        return self.waiting

    def link_up(self, link: Link) -> None:
        self.up.append(link)

    def link_down(self, link: Link, reason: str) -> None:
        self.down.append(reason)

    def message(self, link: Link, message: Message) -> None:
        self.messages.append(message)


class Member:
    """A node in the room."""

    def __init__(self, room: Room, number: int, chain: Chain | None, name: str) -> None:
        self.room = room
        self.key = SigningKey(bytes([number]) * 32)
        self.id = NodeId(self.key.public)
        self.chain = chain or room.admit(self.key)
        self.name = name
        self.banned: list[NodeId] = []
        self.heard = Heard()
        self.start()

    def start(self) -> None:
        """Begin, or begin anew with nothing remembered."""
        self.transport = WiredTransport(self.room.wire, f"{self.name}#{len(self.room.wire.ends)}")
        party = Party(
            ROOM,
            self.key,
            canonical.dumps({"chain": chain_to_json(self.chain)}),
            canonical.dumps({"name": self.name}),
        )
        self.links = RoomLinks(
            party,
            self.transport,
            self.room.verify,
            lambda node: node in self.banned,
            lambda peer, body: self.room.signal(self, peer, body),
            self.heard,
            IceSettings(),
            Random(len(self.room.wire.ends)),
            lambda: self.room.now,
        )
        self.transport.on_event = self.links.transport_event

    def restart(self) -> None:
        self.transport.on_event = lambda event: None
        self.transport.crash()
        self.start()

    def linked(self, other: Member) -> bool:
        return self.links.link(other.id) is not None

    def inject(self, other: Member, message: Message | bytes) -> None:
        """Send what its own code would not, on its newest connection."""
        data = message if isinstance(message, bytes) else encode(message)
        link = self.transport._last
        self.transport.send(SendControl(link, data))


@dataclass
class Room:
    """Members, the wire, the tracker between them, and the time."""

    id = ROOM
    key = ROOM_KEY
    wire: Wire = field(default_factory=Wire)
    now: float = NOW
    members: dict[NodeId, Member] = field(default_factory=dict)
    tamper: Callable[[Json], Json] = lambda body: body
    signals: list[str] = field(default_factory=list)
    deaf: bool = False

    def admit(self, key: SigningKey) -> Chain:
        return (node_certificate(ROOM, key.public, ["member"], NOW, ROOM_KEY),)

    def invite(self, key: SigningKey, uses: int = 1) -> Chain:
        invited = SigningKey(b"\x63" * 32)
        return (
            invitation(ROOM, invited, ["member"], NOW, 60.0, uses, b"i" * 16, ROOM_KEY),
            node_certificate(ROOM, key.public, ["member"], NOW, invited),
        )

    def member(self, number: int, chain: Chain | None = None) -> Member:
        made = Member(self, number, chain, f"node{number}")
        self.members[made.id] = made
        return made

    def verify(self, data: bytes) -> NodeId:
        chain = parse_chain(canonical.loads(data).get("chain"))
        return verify_chain(ROOM, chain, self.now).node_id

    def signal(self, sender: Member, peer: NodeId, body: Json) -> None:
        self.signals.append(body["kind"])
        if self.deaf:
            return
        to = self.members.get(peer)
        if to is None:
            self.wire.later(lambda: sender.links.unreachable(peer))
        else:
            passed_on = self.tamper(dict(body))
            self.wire.later(lambda: to.links.signal_received(sender.id, passed_on))

    def settle(self) -> None:
        self.wire.settle()

    def tick(self, seconds: float) -> None:
        """Let time pass in steps of a second, as the daemon ticks."""
        until = self.now + seconds
        while self.now < until:
            self.now = min(self.now + 1.0, until)
            for member in self.members.values():
                member.links.tick()
            self.settle()


@pytest.fixture
def room() -> Room:
    return Room()


@pytest.fixture
def pair(room: Room) -> tuple[Member, Member]:
    """Two members; the first is the one that offers."""
    one, other = sorted((room.member(2), room.member(3)), key=lambda member: member.id)
    return one, other
