"""The messages of the ``/room`` websocket, JSON text with a ``type``.

::

    tracker: challenge                               member: login
    tracker: welcome | refused (and closes)
    member:  presence, announce, seek, signal, revoke
    tracker: joined, left, holders, signal, unreachable, registry, revoked, error
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from dreamer.protocol import canonical
from dreamer.protocol.canonical import Json
from dreamer.protocol.errors import DreamerError, InputError
from dreamer.protocol.ids import InfoHash, NodeId, RoomId, from_hex
from dreamer.protocol.limits import (
    TRACKER_CAPABILITIES_MAX_BYTES,
    TRACKER_HASHES_PER_MESSAGE,
    TRACKER_NODE_INTERVAL_S,
)
from dreamer.protocol.rooms import fields
from dreamer.protocol.rooms.card import INFO_HASH_BYTES
from dreamer.protocol.rooms.keys import SIGNATURE_BYTES
from dreamer.protocol.rooms.membership import Chain, parse_chain
from dreamer.protocol.rooms.revocations import Revocation, parse_revocation
from dreamer.tracker.refusal import RefusedError
from dreamer.tracker.rooms import Guest


@dataclass(frozen=True)
class Login:
    """A node says who it is and proves it; ``signature`` is over nonce, room and node."""

    room_id: RoomId
    node_id: NodeId
    chain: Chain
    signature: bytes


@dataclass(frozen=True)
class Presence:
    """What a member can do, for the others to read."""

    capabilities: Json


@dataclass(frozen=True)
class Claim:
    """Changes to the swarms that a member is in: it has, wants, or no longer has a model."""

    have: tuple[InfoHash, ...]
    want: tuple[InfoHash, ...]
    gone: tuple[InfoHash, ...]


@dataclass(frozen=True)
class Seek:
    """A member asks who is in a swarm."""

    swarm: InfoHash


@dataclass(frozen=True)
class Signal:
    """Something for one other member: an offer, an answer; the tracker doesn't look inside."""

    to: NodeId
    body: Json


@dataclass(frozen=True)
class Revoke:
    """An admin ends a membership."""

    revocation: Revocation


Said = Presence | Claim | Seek | Signal | Revoke


def parse_login(message: str | bytes) -> Login:
    """Return the login in a client's first message.

    Raises:
        InputError: it is none, or malformed.
    """
    said = _object(message)
    if said.get("type") != "login":
        raise InputError("log in first")
    return Login(
        room_id=RoomId(from_hex(said.get("room"), "room")),
        node_id=NodeId(from_hex(said.get("node"), "node")),
        chain=parse_chain(said.get("chain")),
        signature=from_hex(said.get("sig"), "sig", SIGNATURE_BYTES),
    )


def parse(message: str | bytes) -> Said:
    """Return what a member said.

    Raises:
        InputError: it is malformed or out of bounds.
    """
    said = _object(message)
    match said.get("type"):
        case "presence":
            return Presence(_capabilities(said.get("capabilities")))
        case "announce":
            return Claim(*(_hashes(said.get(field, [])) for field in ("have", "want", "gone")))
        case "seek":
            return Seek(InfoHash(from_hex(said.get("swarm"), "swarm", INFO_HASH_BYTES)))
        case "signal":
            return Signal(NodeId(from_hex(said.get("to"), "to")), _json_object(said.get("body")))
        case "revoke":
            return Revoke(parse_revocation(said.get("revocation")))
    raise InputError("unknown type: presence, announce, seek, signal or revoke")


def _object(message: str | bytes) -> Json:
    return canonical.loads_lenient(message.encode() if isinstance(message, str) else message)


def _json_object(value: object) -> Json:
    if not isinstance(value, dict):
        raise InputError("body must be a JSON object")
    return value


def _capabilities(value: object) -> Json:
    capabilities = _json_object(value)
    if len(json.dumps(capabilities)) > TRACKER_CAPABILITIES_MAX_BYTES:
        raise InputError(f"capabilities take {TRACKER_CAPABILITIES_MAX_BYTES} bytes at most")
    return capabilities


def _hashes(value: object) -> tuple[InfoHash, ...]:
    listed = fields.items(value, "a list of swarms", TRACKER_HASHES_PER_MESSAGE)
    return tuple(InfoHash(from_hex(each, "a swarm", INFO_HASH_BYTES)) for each in listed)


def challenge(nonce: bytes) -> str:
    """Return the first message to a client."""
    return _dump({"type": "challenge", "nonce": nonce.hex()})


def welcome(session: str, members: Iterable[Guest], address: str) -> str:
    """Return the message that lets a member in: its bearer token and who is there."""
    return _dump(
        {
            "type": "welcome",
            "session": session,
            "members": [_present(guest) for guest in members],
            "interval": TRACKER_NODE_INTERVAL_S,
            "address": address,
        }
    )


def refused(refusal: RefusedError) -> str:
    """Return the last message to a client that may not enter or stay."""
    return _dump({"type": "refused", "code": str(refusal.reason), "message": str(refusal)})


def joined(guest: Guest) -> str:
    """Return the news that a member is present, or that its capabilities changed."""
    return _dump({"type": "joined", **_present(guest)})


def left(node: NodeId) -> str:
    """Return the news that a member has gone."""
    return _dump({"type": "left", "node": node.hex()})


def holders(swarm: InfoHash, nodes: Iterable[NodeId]) -> str:
    """Return the answer to a seek."""
    hexes = [node.hex() for node in nodes]
    return _dump({"type": "holders", "swarm": swarm.hex(), "nodes": hexes})


def signal(sender: NodeId, body: Json) -> str:
    """Return the message that hands a signal to its target."""
    return _dump({"type": "signal", "from": sender.hex(), "body": body})


def unreachable(node: NodeId) -> str:
    """Return the news, for the sender of a signal, that its target isn't present."""
    return _dump({"type": "unreachable", "node": node.hex()})


def registry_changed(etag: str) -> str:
    """Return the news that the registry was written."""
    return _dump({"type": "registry", "etag": etag})


def revoked(revocation: Revocation) -> str:
    """Return the news of a revocation, whole, so that members can verify it."""
    return _dump({"type": "revoked", "revocation": revocation.to_json()})


def error(problem: DreamerError) -> str:
    """Return the message that tells a member what was wrong with its own."""
    return _dump({"type": "error", "code": problem.code, "message": str(problem)})


def _present(guest: Guest) -> Json:
    return {"node": guest.node_id.hex(), "capabilities": guest.capabilities}


def _dump(value: Json) -> str:
    return json.dumps(value, separators=(",", ":"))
