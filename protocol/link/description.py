"""A session description cut down to what another Dreamer node can't know, and built up again.

Two thirds of what aiortc writes is the same for every data-channel connection that it makes, and
a text that people carry by hand must be short. What is left: the ICE user and password, the
SHA-256 of the DTLS certificate, and a bounded number of addresses.

::

    ufrag, password   1 byte each: their lengths; then both, 6 bits a character (RFC 8839: ice-char)
    fingerprint       32 bytes
    candidates        1 byte: how many; each: 1 byte kind and family, 4 or 16 of address, 2 of port
"""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv6Address, ip_address

from dreamer.protocol.errors import InputError, LocalProtocolError
from dreamer.protocol.limits import CONNECT_MAX_CANDIDATES

FINGERPRINT_BYTES = 32
_MESSAGE_MAX_BYTES = 262144
_SCTP_PORT = 5000
_UFRAG_CHARS = range(4, 33)
_PASSWORD_CHARS = range(22, 65)
_ICE_CHARS = re.compile(r"[A-Za-z0-9+/]+", re.ASCII)
_CANDIDATE = re.compile(
    r"a=candidate:\S+ 1 (?:udp|UDP) (\d+) ([0-9A-Fa-f:.]+) (\d+) typ (host|srflx|relay)\b.*"
)
_IPV6 = 0x80


class Setup(Enum):
    """Who begins the DTLS handshake (RFC 8842): the offerer leaves it open, the answerer does."""

    OFFER = "actpass"
    ANSWER = "active"


class CandidateKind(Enum):
    """What an address is: our own, what a STUN server saw, or one at a TURN server (RFC 8445)."""

    HOST = "host"
    REFLEXIVE = "srflx"
    RELAYED = "relay"


_KINDS = tuple(CandidateKind)
_TYPE_PREFERENCE = {
    CandidateKind.HOST: 126,
    CandidateKind.REFLEXIVE: 100,
    CandidateKind.RELAYED: 0,
}


@dataclass(frozen=True)
class Candidate:
    """A UDP address at which one end may be reached."""

    kind: CandidateKind
    address: IPv4Address | IPv6Address
    port: int


@dataclass(frozen=True)
class Description:
    """One end of a connection; ``fingerprint`` is the SHA-256 (32 bytes) of its certificate."""

    ufrag: str
    password: str
    fingerprint: bytes
    candidates: tuple[Candidate, ...]

    def sdp(self, setup: Setup) -> str:
        """Return it as the SDP that aiortc reads (RFC 8866, RFC 8841)."""
        lines = [
            *("v=0", "o=- 0 0 IN IP4 0.0.0.0", "s=-", "t=0 0"),
            *("a=group:BUNDLE 0", "a=msid-semantic:WMS *"),
            *("m=application 9 UDP/DTLS/SCTP webrtc-datachannel", "c=IN IP4 0.0.0.0", "a=mid:0"),
            f"a=sctp-port:{_SCTP_PORT}",
            f"a=max-message-size:{_MESSAGE_MAX_BYTES}",
            *(_line(rank, candidate) for rank, candidate in enumerate(self.candidates)),
            "a=end-of-candidates",
            f"a=ice-ufrag:{self.ufrag}",
            f"a=ice-pwd:{self.password}",
            f"a=fingerprint:sha-256 {self.fingerprint.hex(':').upper()}",
            f"a=setup:{setup.value}",
        ]
        return "".join(f"{line}\r\n" for line in lines)

    def encode(self) -> bytes:
        """Return the bytes of the table above."""
        lengths = bytes([len(self.ufrag), len(self.password)])
        packed = [lengths, _pack_chars(self.ufrag + self.password), self.fingerprint]
        packed.append(bytes([len(self.candidates)]))
        packed += map(_pack_candidate, self.candidates)
        return b"".join(packed)


def reduce(sdp: str) -> Description:
    """Return what matters of a description that our own transport made.

    Raises:
        LocalProtocolError: it is not like those that ``Description.sdp`` builds up again.
    """
    lines = sdp.splitlines()
    expected = ("a=mid:0", f"a=sctp-port:{_SCTP_PORT}", f"a=max-message-size:{_MESSAGE_MAX_BYTES}")
    ufrag, password = _value(lines, "a=ice-ufrag:"), _value(lines, "a=ice-pwd:")
    fingerprint = bytes.fromhex(_value(lines, "a=fingerprint:sha-256 ").replace(":", ""))
    if any(line not in lines for line in expected) or not _well_formed(ufrag, password):
        raise LocalProtocolError("our transport describes its connections in a way we don't know")
    return Description(ufrag, password, fingerprint, _chosen(_candidates(lines)))


def decode(data: bytes) -> Description:
    """Return the description in ``data``, all of it.

    Raises:
        InputError: it has no such form.
    """
    reader = _Bytes(data)
    ufrag, password = reader.chars()
    fingerprint = reader.take(FINGERPRINT_BYTES)
    count = reader.take(1)[0]
    if count > CONNECT_MAX_CANDIDATES or not _well_formed(ufrag, password):
        raise InputError("a description of a connection that is out of bounds")
    candidates = tuple(reader.candidate() for _ in range(count))
    if reader.left:
        raise InputError("a description of a connection with bytes left over")
    return Description(ufrag, password, fingerprint, candidates)


def _value(lines: list[str], prefix: str) -> str:
    for line in lines:
        if line.startswith(prefix):
            return line.removeprefix(prefix)
    raise LocalProtocolError(f"our transport gave a description without {prefix!r}")


def _well_formed(ufrag: str, password: str) -> bool:
    chars = _ICE_CHARS.fullmatch(ufrag) and _ICE_CHARS.fullmatch(password)
    return bool(chars) and len(ufrag) in _UFRAG_CHARS and len(password) in _PASSWORD_CHARS


def _candidates(lines: list[str]) -> Iterator[tuple[int, Candidate]]:
    for line in lines:
        if found := _CANDIDATE.fullmatch(line):
            priority, address, port, kind = found.groups()
            known = Candidate(CandidateKind(kind), ip_address(address), int(port))
            yield int(priority), known


def _chosen(found: Iterator[tuple[int, Candidate]]) -> tuple[Candidate, ...]:
    """Return the most useful candidates, as many as a text may carry, the best first.

    A machine with containers has a dozen addresses of its own, and those that a server saw are
    often the only ones that lead to it: they have their places before the others.
    """
    ranked = sorted(found, key=lambda each: -each[0])
    seen = dict.fromkeys(candidate for _, candidate in ranked)
    groups: dict[tuple[CandidateKind, int], list[Candidate]] = {}
    for candidate in seen:
        groups.setdefault((candidate.kind, candidate.address.version), []).append(candidate)
    chosen: dict[Candidate, None] = {}
    # In turns, so that no kind and neither family of addresses crowds the others out.
    for turn in range(len(seen)):
        for group in groups.values():
            if turn < len(group) and len(chosen) < CONNECT_MAX_CANDIDATES:
                chosen[group[turn]] = None
    return tuple(candidate for candidate in seen if candidate in chosen)


def _line(rank: int, candidate: Candidate) -> str:
    # RFC 8445, 5.1.2.1; the order in the text is the local preference.
    preference = _TYPE_PREFERENCE[candidate.kind]
    priority = (preference << 24) + ((65535 - rank) << 8) + 255
    return (
        f"a=candidate:{rank + 1} 1 udp {priority} {candidate.address} {candidate.port} "
        f"typ {candidate.kind.value}"
    )


def _pack_chars(text: str) -> bytes:
    # An ice-char is a letter of base64, which is 6 bits.
    return base64.b64decode(text + "A" * (-len(text) % 4))[: _packed_bytes(len(text))]


def _packed_bytes(chars: int) -> int:
    return (chars * 6 + 7) // 8


def _pack_candidate(candidate: Candidate) -> bytes:
    head = _KINDS.index(candidate.kind) | (_IPV6 if candidate.address.version == 6 else 0)
    return bytes([head]) + candidate.address.packed + candidate.port.to_bytes(2)


class _Bytes:
    """Takes bytes from the front."""

    def __init__(self, data: bytes) -> None:
        self.left = data

    def take(self, count: int) -> bytes:
        if len(self.left) < count:
            raise InputError("a description of a connection that ends too early")
        taken, self.left = self.left[:count], self.left[count:]
        return taken

    def chars(self) -> tuple[str, str]:
        first, second = self.take(2)
        packed = self.take(_packed_bytes(first + second))
        both = base64.b64encode(packed + bytes(-len(packed) % 3)).decode()
        return both[:first], both[first : first + second]

    def candidate(self) -> Candidate:
        head = self.take(1)[0]
        address = ip_address(self.take(16 if head & _IPV6 else 4))
        kind = head & ~_IPV6
        if kind >= len(_KINDS):
            raise InputError("an address of a kind we don't know")
        return Candidate(_KINDS[kind], address, int.from_bytes(self.take(2)))
