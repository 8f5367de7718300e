"""The tracker's ``/room`` messages as a node reads and writes them.

A tracker isn't trusted with more than introductions: whatever is malformed is junk, None here.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from dreamer.daemon.rendezvous.events import (
    MemberGone,
    MemberPresent,
    RegistryChanged,
    RevocationReceived,
    SignalReceived,
    Unreachable,
)
from dreamer.protocol import canonical
from dreamer.protocol.canonical import Json
from dreamer.protocol.errors import InputError
from dreamer.protocol.ids import InfoHash, NodeId, RoomId, from_hex
from dreamer.protocol.limits import CROWD_COMMITTEE
from dreamer.protocol.rooms import fields
from dreamer.protocol.rooms.card import INFO_HASH_BYTES
from dreamer.protocol.rooms.keys import Purpose, SigningKey
from dreamer.protocol.rooms.membership import Chain, chain_to_json
from dreamer.protocol.rooms.revocations import Revocation, parse_revocation
from dreamer.protocol.swarm.holders import Found
from dreamer.protocol.tracker_limits import (
    TRACKER_CAPABILITIES_MAX_BYTES,
    TRACKER_MESSAGE_MAX_BYTES,
    TRACKER_ROOM_MAX_MEMBERS,
    TRACKER_SEEK_MAX_NODES,
)

NONCE_BYTES = 32
_SHOWN_CHARS = 300
_TOKEN_MAX_CHARS = 256


@dataclass(frozen=True)
class Challenge:
    """Prove who you are by signing this."""

    nonce: bytes


@dataclass(frozen=True)
class Welcome:
    """Logged in: the bearer token for HTTP, and who is there."""

    session: str
    members: tuple[MemberPresent, ...]


@dataclass(frozen=True)
class Refused:
    """Turned away; ``code`` ``full`` is the only one that time alone may change."""

    code: str
    message: str


@dataclass(frozen=True)
class Holders:
    """Who is in a swarm."""

    swarm: InfoHash
    found: Found


@dataclass(frozen=True)
class Complaint:
    """Something we sent was refused; the session goes on."""

    message: str


@dataclass(frozen=True)
class Unknown:
    """A message of a type that this version doesn't know."""


News = (
    MemberPresent | MemberGone | SignalReceived | Unreachable | RegistryChanged | RevocationReceived
)
Said = Challenge | Welcome | Refused | Holders | Complaint | Unknown | News


def parse(data: object) -> Said | None:
    """Return what a tracker said; None for junk."""
    if not isinstance(data, str | bytes):
        return None
    try:
        said = canonical.loads_lenient(data.encode() if isinstance(data, str) else data)
        return _typed(said)
    except (InputError, UnicodeEncodeError):
        return None


def _typed(said: Json) -> Said:
    match said.get("type"):
        case "challenge":
            return Challenge(from_hex(said.get("nonce"), "nonce", NONCE_BYTES))
        case "welcome":
            return _welcome(said)
        case "refused":
            return Refused(_line(said.get("code")), _line(said.get("message")))
        case "holders":
            return _holders(said)
        case "error":
            return Complaint(_line(said.get("message")))
        case _:
            return _news(said)


def _news(said: Json) -> News | Unknown:
    match said.get("type"):
        case "joined":
            return _present(said)
        case "left":
            return MemberGone(_node(said.get("node")))
        case "signal":
            return SignalReceived(_node(said.get("from")), _object(said.get("body")))
        case "unreachable":
            return Unreachable(_node(said.get("node")))
        case "registry":
            return RegistryChanged(_line(said.get("etag")))
        case "revoked":
            return RevocationReceived(parse_revocation(said.get("revocation")))
    fields.text(said.get("type"), "type")
    return Unknown()


def _welcome(said: Json) -> Welcome:
    members = fields.items(said.get("members"), "members", TRACKER_ROOM_MAX_MEMBERS)
    session = fields.text(said.get("session"), "session")
    if not (0 < len(session) <= _TOKEN_MAX_CHARS and session.isascii() and session.isprintable()):
        raise InputError("a session is a short line of ASCII")
    return Welcome(session, tuple(map(_present, members)))


def _holders(said: Json) -> Holders:
    swarm = InfoHash(from_hex(said.get("swarm"), "swarm", INFO_HASH_BYTES))
    nodes = _nodes(said.get("nodes"), "nodes", TRACKER_SEEK_MAX_NODES)
    # What older trackers don't say is as if there were none.
    whole = fields.whole(said.get("whole", 0), "whole")
    chosen = said.get("committee")
    committee = None if chosen is None else _nodes(chosen, "committee", CROWD_COMMITTEE)
    return Holders(swarm, Found(nodes, nodes[:whole], committee))


def _nodes(value: object, what: str, limit: int) -> tuple[NodeId, ...]:
    return tuple(map(_node, fields.items(value, what, limit)))


def _present(value: object) -> MemberPresent:
    said = _object(value)
    capabilities = _object(said.get("capabilities"))
    # A tracker that keeps no bounds must not make us keep a thousand members' megabytes.
    if len(canonical.dumps(capabilities)) > TRACKER_CAPABILITIES_MAX_BYTES:
        raise InputError("a member's capabilities are too large")
    return MemberPresent(_node(said.get("node")), capabilities)


def _node(value: object) -> NodeId:
    return NodeId(from_hex(value, "node"))


def _object(value: object) -> Json:
    if not isinstance(value, dict):
        raise InputError("expected a JSON object")
    return value


def _line(value: object) -> str:
    return shown(fields.text(value, "text"))


def shown(text: str) -> str:
    """Return what a tracker said, fit to be read by people: no control characters, no flood."""
    return "".join(each if each.isprintable() else " " for each in text[:_SHOWN_CHARS])


def login(tracker: str, room_id: RoomId, key: SigningKey, chain: Chain, nonce: bytes) -> str:
    """Return the message that proves who we are, to the tracker (``HOST:PORT``) we have dialled."""
    message = nonce + room_id + key.public + tracker.encode()
    signature = key.sign(Purpose.TRACKER_LOGIN, message)
    return _dump(
        {
            "type": "login",
            "room": room_id.hex(),
            "node": key.public.hex(),
            "tracker": tracker,
            "chain": chain_to_json(chain),
            "sig": signature.hex(),
        }
    )


def presence(capabilities: Json) -> str:
    """Return the message that tells the others what we can do."""
    return _dump({"type": "presence", "capabilities": capabilities})


def claim(field: str, swarms: Iterable[InfoHash]) -> str:
    """Return the message that we ``have``, ``want``, or are ``gone`` from, these swarms."""
    return _dump({"type": "announce", field: [swarm.hex() for swarm in swarms]})


def seek(swarm: InfoHash) -> str:
    """Return the question who is in a swarm."""
    return _dump({"type": "seek", "swarm": swarm.hex()})


def signal(to: NodeId, body: Json) -> str:
    """Return the message that has the tracker hand ``body`` to one member.

    Raises:
        InputError: it is larger than trackers take.
    """
    message = _dump({"type": "signal", "to": to.hex(), "body": body})
    if len(message) > TRACKER_MESSAGE_MAX_BYTES:
        raise InputError(f"a signal takes {TRACKER_MESSAGE_MAX_BYTES} bytes at most")
    return message


def revoke(revocation: Revocation) -> str:
    """Return the message that ends a membership."""
    return _dump({"type": "revoke", "revocation": revocation.to_json()})


def _dump(value: Json) -> str:
    return json.dumps(value, separators=(",", ":"))
