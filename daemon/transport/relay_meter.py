"""How much of a link has passed over a relay (TURN), and how much more may.

Counted is every datagram, either way, that goes through a relay once ICE has nominated a pair:
DTLS with all that is in it, and ICE's own checks. It goes through a relay if our own end of its
path is an address at a TURN server, or its other end one that the peer named as its own there. So
the path of each datagram counts, whatever pair either end has nominated by then: the two can
differ, and change. Its size is that of the UDP payload, with the 4 bytes that TURN puts before it
on the way to our own server (RFC 8656, 12.4); IP and UDP headers are left out. aiortc's
``getStats`` knows no data channels, so this listens where aioice hands datagrams over.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

from aioice import Connection as IceConnection
from aioice.ice import CandidatePair, StunProtocol

from dreamer.protocol.limits import RELAY_RESERVE_BYTES

CHANNEL_DATA_HEADER_BYTES = 4

_CANDIDATE = "a=candidate:"

Address = tuple[str, int]


def relay_addresses(sdp: str) -> frozenset[Address]:
    """Return the addresses that a description names as its relays'.

    Raises:
        ValueError: a port is no number.
    """
    # As the sockets will name them: the peer may write an IPv6 address in many ways.
    return frozenset(
        (str(ip_address(named[0])), int(named[1]))
        for line in sdp.splitlines()
        if (named := _relay(line)) and _is_address(named[0])
    )


def _relay(line: str) -> tuple[str, str] | None:
    """Return host and port of a relay's candidate, read as aiortc reads it: by words alone."""
    words = line.removeprefix(_CANDIDATE).split()
    if line.startswith(_CANDIDATE) and len(words) >= 8 and words[7] == "relay":
        return words[4], words[5]
    return None


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def without_relays(sdp: str) -> str:
    """Return a description without its relays' addresses.

    Raises:
        ValueError: it has no others.
    """
    stripped = "".join(line for line in sdp.splitlines(keepends=True) if _relay(line) is None)
    if _CANDIDATE in sdp and _CANDIDATE not in stripped:
        raise ValueError('only a relay leads to it, and here [network] relay = "never"')
    return stripped


def is_relayed(pair: CandidatePair) -> bool:
    """Return whether either end of a pair is an address at a relay."""
    return "relay" in (pair.local_candidate.type, pair.remote_candidate.type)


class CountedTransport:
    """A socket's transport that tells of each datagram before it is sent; ``inner`` is its own."""

    def __init__(self, inner: Any, sent: Callable[[int, Address], None]) -> None:
        self.inner = inner
        self._send = inner.sendto
        self._sent = sent

    def sendto(self, data: bytes, addr: Address) -> None:
        """Count a datagram and send it."""
        self._sent(len(data), addr)
        self._send(data, addr)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)


class RelayMeter:
    """One link's count. ``refuses`` has it throw away what comes through a relay of the peer's."""

    def __init__(self, ice: IceConnection, refuses: bool) -> None:
        self._ice = ice
        self._refuses = refuses
        self._theirs: frozenset[Address] = frozenset()
        self._learned = False
        self._watched: list[StunProtocol] = []
        self.received_bytes = 0
        self.sent_bytes = 0
        self.own_bytes = 0
        """Of both, over this node's own allocation: those that it pays for."""
        self.allowed_bytes = 0

    @property
    def relayed(self) -> bool:
        """Whether the pair that ICE has nominated has a relay in it."""
        return any(is_relayed(pair) for pair in self._ice._nominated.values())

    @property
    def spent(self) -> bool:
        """Whether a relay carries the link and may carry no more blocks."""
        counted = self.received_bytes + self.sent_bytes
        return counted + RELAY_RESERVE_BYTES > self.allowed_bytes and self.relayed

    def learn(self, sdp: str) -> None:
        """Take note of the peer's relays."""
        self._theirs = relay_addresses(sdp)
        self._learned = True
        self.watch()

    def watch(self) -> None:
        """Count on every socket on which a relay may be met; call it when they are gathered."""
        for protocol in self._ice._protocols:
            # Links that meet no relay, which are nearly all, are spared a call for each datagram.
            met = self._theirs or self._refuses or protocol.local_candidate.type == "relay"
            if met and protocol not in self._watched:
                self._watched.append(protocol)
                self._wrap(protocol)

    def _wrap(self, protocol: StunProtocol) -> None:
        ours = protocol.local_candidate.type == "relay"
        framing = CHANNEL_DATA_HEADER_BYTES if ours else 0
        receive = protocol.datagram_received

        def received(data: bytes | str, addr: tuple[Any, ...]) -> None:
            if self._refuses and (addr[:2] in self._theirs or not self._learned):
                # Also a check that is here before the answer: it may have come through a relay,
                # and ours in return would go through it. The peer will send another.
                return
            if self._ice._nominated and (ours or addr[:2] in self._theirs):
                self.received_bytes += len(data) + framing
                self.own_bytes += (len(data) + framing) * ours
            receive(data, addr)

        def sent(size_bytes: int, addr: Address) -> None:
            if self._ice._nominated and (ours or addr in self._theirs):
                self.sent_bytes += size_bytes + framing
                self.own_bytes += (size_bytes + framing) * ours

        # aioice has no hook for this; its protocols are plain objects, one for each socket.
        counted = CountedTransport(protocol.transport, sent)
        vars(protocol).update(datagram_received=received, transport=counted)
