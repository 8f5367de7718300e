"""The messages of the ``/room`` websocket, JSON text with a ``type``.

::

    tracker: challenge                               member: login
    tracker: welcome, then every revoked there was | refused (and closes)
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
from dreamer.protocol.limits import URL_MAX_CHARS
from dreamer.protocol.rooms import fields
from dreamer.protocol.rooms.card import INFO_HASH_BYTES
from dreamer.protocol.rooms.keys import SIGNATURE_BYTES
from dreamer.protocol.rooms.membership import Chain, parse_chain
from dreamer.protocol.rooms.revocations import Revocation, parse_revocation
from dreamer.protocol.swarm.holders import Found
from dreamer.protocol.tracker_limits import (
    TRACKER_CAPABILITIES_MAX_BYTES,
    TRACKER_HASHES_PER_MESSAGE,
)
from dreamer.tracker.room.refusal import RefusedError
from dreamer.tracker.room.rooms import Guest


@dataclass(frozen=True)
class Login:
    """A node says who it is and whom it dialled (``HOST:PORT``), and proves it.

    ``signature`` is over nonce, room, node and tracker: only the last has no fixed length.
    """

    room_id: RoomId
    node_id: NodeId
    tracker: str
    chain: Chain
    signature: bytes


@dataclass(frozen=True)
class Presence:
    """What a member can do, for the others to read: a JSON object as text."""

    capabilities: str


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
    """An offer or an answer for one other member: a JSON object as text, not looked into."""

    to: NodeId
    body: str


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
        tracker=_tracker(said.get("tracker")),
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
            return Signal(
                NodeId(from_hex(said.get("to"), "to")), _object_text(said.get("body"), "body")
            )
        case "revoke":
            return Revoke(parse_revocation(said.get("revocation")))
    raise InputError("unknown type: presence, announce, seek, signal or revoke")


def _object(message: str | bytes) -> Json:
    return canonical.loads_lenient(message.encode() if isinstance(message, str) else message)


def _tracker(value: object) -> str:
    tracker = fields.text(value, "tracker")
    if not (0 < len(tracker) <= URL_MAX_CHARS and tracker.isascii() and tracker.isprintable()):
        raise InputError("tracker must be HOST:PORT as it was dialled")
    return tracker.lower()


def _object_text(value: object, what: str) -> str:
    if not isinstance(value, dict):
        raise InputError(f"{what} must be a JSON object")
    # Written once, here: what nodes refuse to read (NaN, half a surrogate pair) must be its
    # sender's failure, not that of everybody who is to hear of it.
    return canonical.dumps(value).decode()


def _capabilities(value: object) -> str:
    text = _object_text(value, "capabilities")
    if len(text.encode()) > TRACKER_CAPABILITIES_MAX_BYTES:
        raise InputError(f"capabilities take {TRACKER_CAPABILITIES_MAX_BYTES} bytes at most")
    return text


def _hashes(value: object) -> tuple[InfoHash, ...]:
    listed = fields.items(value, "a list of swarms", TRACKER_HASHES_PER_MESSAGE)
    return tuple(InfoHash(from_hex(each, "a swarm", INFO_HASH_BYTES)) for each in listed)


def challenge(nonce: bytes) -> str:
    """Return the first message to a client."""
    return _dump({"type": "challenge", "nonce": nonce.hex()})


def welcome(session: str, members: Iterable[Guest]) -> str:
    """Return the message that lets a member in: its bearer token and who is there."""
    present = ",".join(f"{{{_present(guest)}}}" for guest in members)
    return f'{{"type":"welcome","session":{json.dumps(session)},"members":[{present}]}}'


def refused(refusal: RefusedError) -> str:
    """Return the last message to a client that may not enter or stay."""
    return _dump({"type": "refused", "code": str(refusal.reason), "message": str(refusal)})


def joined(guest: Guest) -> str:
    """Return the news that a member is present, or that its capabilities changed."""
    return f'{{"type":"joined",{_present(guest)}}}'


def left(node: NodeId) -> str:
    """Return the news that a member has gone."""
    return _dump({"type": "left", "node": node.hex()})


def holders(swarm: InfoHash, found: Found) -> str:
    """Return the answer to a seek.

    ``whole`` says how many of ``nodes``, the first of them, have it all; ``committee`` is there
    only where a large crowd has one. Nodes of older versions look at ``nodes`` alone.
    """
    said: Json = {"type": "holders", "swarm": swarm.hex(), "nodes": _hexes(found.nodes)}
    if found.whole:
        said["whole"] = len(found.whole)
    if found.committee is not None:
        said["committee"] = _hexes(found.committee)
    return _dump(said)


def signal(sender: NodeId, body: str) -> str:
    """Return the message that hands a signal to its target."""
    return f'{{"type":"signal","from":"{sender.hex()}","body":{body}}}'


def unreachable(node: NodeId) -> str:
    """Return the news, for the sender of a signal, that its target isn't there or is swamped."""
    return _dump({"type": "unreachable", "node": node.hex()})


def registry_changed(etag: str) -> str:
    """Return the news that the registry was written."""
    return _dump({"type": "registry", "etag": etag})


def revoked(revocation: str) -> str:
    """Return the news of a revocation (JSON text), whole, so that members can verify it."""
    return f'{{"type":"revoked","revocation":{revocation}}}'


def error(problem: DreamerError) -> str:
    """Return the message that tells a member what was wrong with its own."""
    return _dump({"type": "error", "code": problem.code, "message": str(problem)})


def _present(guest: Guest) -> str:
    return f'"node":"{guest.node_id.hex()}","capabilities":{guest.capabilities}'


def _hexes(nodes: Iterable[NodeId]) -> list[str]:
    return [node.hex() for node in nodes]


def _dump(value: Json) -> str:
    return json.dumps(value, separators=(",", ":"))
