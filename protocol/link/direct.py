"""What two daemons say over a direct connection: a token, one byte each, then blocks one way.

1. The dialler pins the certificate, then says the one-time token that it was told over ``control``.
2. The acceptor says ``ACCEPTED``. Whoever asked for the connection takes the first that got so
   far; if it dialled, it says ``CHOSEN`` on it. All others are closed without a word.
3. The side that was asked sends blocks: a header, then the block as it is. Nothing flows back, for
   one TLS connection can't be read and written by two threads at once.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import ClassVar

from blake3 import blake3

from dreamer.protocol.errors import RemoteProtocolError
from dreamer.protocol.ids import NodeId
from dreamer.protocol.limits import DIRECT_ADDRESSES_MAX, DIRECT_ADDRESSES_MAX_CHARS

DIRECT = "direct"
"""The capability that a node names when it takes part."""

TOKEN_BYTES = 32
ACCEPTED = b"\x01"
CHOSEN = b"\x02"

HEADER = struct.Struct(">III")
"""Request, block, and the block's length in bytes."""


@dataclass(frozen=True)
class DirectOpen:
    """I want to take blocks from you over a direct connection: dial one of my addresses.

    ``addresses`` are HOST:PORT with spaces between; ``fingerprint`` is the SHA-256 of the
    certificate that I show there, ``token`` what you say there first, once, within seconds.
    ``host`` lets a peer on the same machine know that it is (``host_mark``).
    """

    kind: ClassVar[int] = 50
    attempt: int
    addresses: str
    fingerprint: bytes
    token: bytes
    host: bytes


@dataclass(frozen=True)
class DirectAnswer:
    """Or dial mine, with this token; I am dialling yours. Fields as in ``DirectOpen``."""

    kind: ClassVar[int] = 51
    attempt: int
    addresses: str
    fingerprint: bytes
    token: bytes
    host: bytes


@dataclass(frozen=True)
class DirectRetire:
    """Send no more blocks over the connection of this attempt; I close it when it is quiet."""

    kind: ClassVar[int] = 52
    attempt: int


def host_mark(boot_id: bytes, node: NodeId) -> bytes:
    """Return what a node shows of the machine it runs on, 32 bytes.

    A node on the same machine makes the same of its own ``boot_id``. Nobody else can: it is not
    told, and what one node shows is no use in the mouth of another.
    """
    return blake3(node, key=blake3(boot_id).digest()).digest()


def join_addresses(addresses: list[str]) -> str:
    """Return as many addresses as a message takes, the first ones."""
    text = ""
    for address in addresses[:DIRECT_ADDRESSES_MAX]:
        longer = f"{text} {address}".lstrip()
        if len(longer) > DIRECT_ADDRESSES_MAX_CHARS:
            break
        text = longer
    return text


def split_addresses(text: str) -> list[tuple[str, int]]:
    """Return host and port of each address of a message.

    Raises:
        RemoteProtocolError: too many, too long, or not HOST:PORT.
    """
    found = text.split(" ") if text else []
    if len(found) > DIRECT_ADDRESSES_MAX or len(text) > DIRECT_ADDRESSES_MAX_CHARS:
        raise RemoteProtocolError("too many addresses for a direct connection")
    return [_host_and_port(address) for address in found]


def _host_and_port(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    # Digits of other scripts are digits to Python, and a NUL ends a name for the resolver.
    good = host and address.isascii() and address.isprintable() and port.isdecimal()
    if not good or not 0 < int(port) < 65536:
        raise RemoteProtocolError("an address for a direct connection that is not HOST:PORT")
    return host, int(port)
