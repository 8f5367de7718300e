"""Who is at the other end: both sides sign the DTLS fingerprints that they see.

A tracker that swaps session descriptions to sit in the middle makes the two sides see different
fingerprints, and then neither signature fits. Until the peer's ``Hello`` has been accepted, no
other message is read, and after ``LINK_HANDSHAKE_TIMEOUT_S`` the link is closed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from dreamer.protocol import canonical
from dreamer.protocol.canonical import Json
from dreamer.protocol.errors import ForbiddenError, InputError, RemoteProtocolError
from dreamer.protocol.ids import NodeId, RoomId
from dreamer.protocol.link.messages import PROTOCOL_VERSION, Hello
from dreamer.protocol.rooms.keys import Purpose, SigningKey, verify


@dataclass(frozen=True)
class Fingerprints:
    """SHA-256 (32 bytes) of the DTLS certificates: ours, and the one the peer showed."""

    ours: bytes
    theirs: bytes


@dataclass(frozen=True)
class Party:
    """What we bring to a handshake. ``chain`` is our membership chain as canonical JSON."""

    room: RoomId
    key: SigningKey
    chain: bytes
    capabilities: bytes


VerifyMember = Callable[[bytes], NodeId]
"""Check a membership chain (canonical JSON) for the room, now; return whose it is or raise."""


def _signed(room: RoomId, signer: bytes, reader: bytes, own: bytes, other: bytes) -> bytes:
    return room + signer + reader + own + other


def hello(party: Party, peer: NodeId, seen: Fingerprints) -> Hello:
    """Return the message that proves who we are to ``peer`` on this very link."""
    signed = _signed(party.room, party.key.public, peer, seen.ours, seen.theirs)
    return Hello(
        PROTOCOL_VERSION,
        party.key.public,
        party.chain,
        party.key.sign(Purpose.LINK, signed),
        party.capabilities,
    )


def accept(
    party: Party, peer: NodeId, seen: Fingerprints, message: Hello, verify_member: VerifyMember
) -> Json:
    """Check the peer's Hello; return its capabilities.

    Raises:
        RemoteProtocolError: another version, another node than the one signalled with, bad form.
        ForbiddenError: no member of the room, or somebody sits between the two ends.
    """
    if message.version != PROTOCOL_VERSION:
        raise RemoteProtocolError(
            f"the peer speaks version {message.version} of the protocol, we speak "
            f"{PROTOCOL_VERSION}: upgrade the older of the two"
        )
    if message.node != peer:
        raise RemoteProtocolError("another node answered than the one that was called")
    if verify_member(message.chain) != peer:
        raise ForbiddenError("the membership shown is another node's")
    signed = _signed(party.room, peer, party.key.public, seen.theirs, seen.ours)
    try:
        verify(peer, Purpose.LINK, signed, message.signature)
    except ForbiddenError as error:
        raise ForbiddenError(
            f"{error}: somebody sits between the two ends, as a tracker could that swaps session "
            "descriptions; ask an admin who runs the room's trackers"
        ) from error
    return capabilities(message.capabilities)


def capabilities(data: bytes) -> Json:
    """Parse a peer's capabilities.

    Raises:
        RemoteProtocolError: not a JSON object.
    """
    try:
        return canonical.loads_lenient(data)
    except InputError as error:
        raise RemoteProtocolError(f"capabilities that can't be read: {error}") from error
