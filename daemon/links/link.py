"""One authenticated link: messages both ways, and the orders its bulk channel takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from dreamer.daemon.transport.vocabulary import (
    Expect,
    SendControl,
    Serve,
    ServeFailed,
    Span,
    StopExpecting,
    StopServing,
    ToTransport,
    VerifiedSpan,
)
from dreamer.protocol.canonical import Json
from dreamer.protocol.errors import LocalProtocolError
from dreamer.protocol.ids import NodeId, RoomId
from dreamer.protocol.link.messages import Message, encode
from dreamer.protocol.swarm.vocabulary import Lane


class Giver(Protocol):
    """What takes blocks to a linked member, as the answer to its requests.

    Each ``serve`` is followed by one ``serve_ended``, also when all that was left is stopped.
    """

    def serve(self, request: int, spans: list[Span]) -> None:
        """Send blocks from disk, as the answer to a request of the peer's."""
        ...

    def stop_serving(self, request: int, block: int) -> None:
        """Leave out a block of a request, or with -1 all that is left."""
        ...


class Taker(Protocol):
    """What brings blocks from a linked member; verdicts are told as ``block_done``."""

    def expect(self, request: int, spans: list[VerifiedSpan]) -> None:
        """Take blocks that were asked for, verify and write them."""
        ...

    def stop_expecting(self, request: int, block: int) -> None:
        """Throw away a block of a request, or with -1 all that is left."""
        ...


class Carrier(Giver, Taker, Protocol):
    """What moves blocks both ways between two linked members."""


@dataclass(frozen=True)
class BulkChannel:
    """The link's own ``bulk`` channel, in the transport process."""

    number: int
    pass_on: Callable[[ToTransport], None]

    def serve(self, request: int, spans: list[Span]) -> None:
        """Send blocks from disk."""
        self.pass_on(Serve(self.number, request, spans))

    def stop_serving(self, request: int, block: int) -> None:
        """Leave out a block of a request, or with -1 all that is left."""
        self.pass_on(StopServing(self.number, request, block))

    def expect(self, request: int, spans: list[VerifiedSpan]) -> None:
        """Take blocks that were asked for, verify and write them."""
        self.pass_on(Expect(self.number, request, spans))

    def stop_expecting(self, request: int, block: int) -> None:
        """Throw away a block of a request, or with -1 all that is left."""
        self.pass_on(StopExpecting(self.number, request, block))


@dataclass
class Link:
    """A member of a room that has proved itself. ``rtt_s`` is None until the first pong.

    ``direct`` brings blocks while a direct connection stands that this node asked for, and
    ``direct_up`` takes some over one that the peer asked for; ``lan`` says whether either runs
    within the local network. ``deciding``: whether there is to be one will show in a moment, so
    nothing is asked over the slower channel. Of ``bytes_up``, ``bytes_up_direct`` went over direct
    connections, the rest over the link's own channel. ``bulk_spent`` says that this channel may
    carry none, for the relay below it has used up its budget.
    """

    number: int
    room: RoomId
    peer: NodeId
    relayed: bool
    capabilities: Json
    pass_on: Callable[[ToTransport], None]
    heard_at: float
    pinged_at: float = 0.0
    rtt_s: float | None = None
    bytes_down: int = 0
    bytes_up: int = 0
    bytes_up_direct: int = 0
    direct: Taker | None = None
    direct_up: Giver | None = None
    deciding: bool = False
    lan: bool = False
    want_direct: Callable[[], None] = lambda: None
    """Says that blocks are to be asked for; the direct lane sets it, and opens a connection."""
    bulk_spent: bool = False
    bulk: BulkChannel = field(init=False)

    def __post_init__(self) -> None:
        self.bulk = BulkChannel(self.number, self.pass_on)

    @property
    def lane(self) -> Lane:
        """The lane that blocks go over now."""
        if self.direct is not None or self.direct_up is not None:
            return Lane.DIRECT
        return Lane.RELAY if self.relayed else Lane.WEBRTC

    def lane_of(self, *, direct: bool) -> Lane:
        """Return the lane that blocks go over, by a direct connection or the link's channel."""
        if direct:
            return Lane.DIRECT
        return Lane.RELAY if self.relayed else Lane.WEBRTC

    @property
    def asked_over(self) -> Lane:
        """The lane that blocks come over if this node asks for some now."""
        if self.direct is not None:
            return Lane.DIRECT
        return Lane.RELAY if self.relayed else Lane.WEBRTC

    @property
    def carrier(self) -> Taker | None:
        """What brings the blocks that this node asks for; None while nothing may."""
        if self.direct is not None:
            return self.direct
        return None if self.bulk_spent or self.deciding else self.bulk

    @property
    def spent(self) -> bool:
        """Whether a relay's budget keeps all blocks off this link."""
        return self.bulk_spent and self.lane is not Lane.DIRECT

    @property
    def name(self) -> str:
        """What the peer calls itself, for people."""
        name = self.capabilities.get("name")
        return name[:64] if isinstance(name, str) and name.isprintable() else ""

    def send(self, message: Message) -> None:
        """Send a control message."""
        self.pass_on(SendControl(self.number, encode(message)))


class LinkListener:
    """Whoever wants to know what happens on the links of a room overrides what it needs.

    A listener that finds a message to break the protocol raises RemoteProtocolError, and the
    link is closed.
    """

    def link_up(self, link: Link) -> None:
        """A member is linked."""

    def link_down(self, link: Link, reason: str) -> None:
        """A link is gone."""

    def waits_on(self, link: Link) -> bool:
        """Return whether this listener waits for something that the member was asked for."""
        return False

    def uses(self, link: Link) -> bool:
        """Return whether something is under way that would be cut off if the link were closed."""
        return self.waits_on(link)

    def lane_changed(self, link: Link) -> None:
        """Blocks of this member come over another lane now, or over none (``Link.carrier``)."""

    def link_doubted(self, link: Link) -> None:
        """A connection beside the link broke as it does when the member's process ends."""

    def message(self, link: Link, message: Message) -> None:
        """A control message came."""

    def block_done(self, link: Link, request: int, block: int, verdict: str) -> None:
        """A block that was expected came in whole (``transport.vocabulary.BlockDone``)."""

    def bytes_arrived(self, link: Link, size_bytes: int) -> None:
        """Unverified payload came in."""

    def serve_ended(self, link: Link, request: int, failed: ServeFailed | None) -> None:
        """A request of the peer's was served to its end, or failed for a local reason."""


def linked_first(links: list[Link]) -> list[Link]:
    """Return links by round trip, the quickest first."""
    return sorted(links, key=lambda link: link.rtt_s if link.rtt_s is not None else 1e9)


class Fanout(LinkListener):
    """Passes what happens on to several listeners, each of which looks for what is its own."""

    def __init__(self) -> None:
        self._listeners: list[LinkListener] = []

    def add(self, listener: LinkListener) -> None:
        """Let a listener know of everything from now on."""
        self._listeners.append(listener)

    def remove(self, listener: LinkListener) -> None:
        """Leave a listener in peace."""
        if listener not in self._listeners:
            raise LocalProtocolError("a listener was removed that was never added")
        self._listeners.remove(listener)

    def link_up(self, link: Link) -> None:
        """Pass it on."""
        for listener in list(self._listeners):
            listener.link_up(link)

    def link_down(self, link: Link, reason: str) -> None:
        """Pass it on."""
        for listener in list(self._listeners):
            listener.link_down(link, reason)

    def waits_on(self, link: Link) -> bool:
        """Return whether anybody does."""
        return any(listener.waits_on(link) for listener in self._listeners)

    def uses(self, link: Link) -> bool:
        """Return whether anybody does."""
        return any(listener.uses(link) for listener in self._listeners)

    def lane_changed(self, link: Link) -> None:
        """Pass it on."""
        for listener in list(self._listeners):
            listener.lane_changed(link)

    def link_doubted(self, link: Link) -> None:
        """Pass it on."""
        for listener in list(self._listeners):
            listener.link_doubted(link)

    def message(self, link: Link, message: Message) -> None:
        """Pass it on."""
        for listener in list(self._listeners):
            listener.message(link, message)

    def block_done(self, link: Link, request: int, block: int, verdict: str) -> None:
        """Pass it on."""
        for listener in list(self._listeners):
            listener.block_done(link, request, block, verdict)

    def bytes_arrived(self, link: Link, size_bytes: int) -> None:
        """Pass it on."""
        for listener in list(self._listeners):
            listener.bytes_arrived(link, size_bytes)

    def serve_ended(self, link: Link, request: int, failed: ServeFailed | None) -> None:
        """Pass it on."""
        for listener in list(self._listeners):
            listener.serve_ended(link, request, failed)
