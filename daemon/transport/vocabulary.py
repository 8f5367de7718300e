"""What the daemon and its transport process say to each other, over one Unix socket pair.

A link is named by a number that the daemon chooses.
"""

from __future__ import annotations

import asyncio
import struct
from dataclasses import dataclass
from typing import get_args

from dreamer.daemon.child_messages import read

Span = tuple[int, str, int, int]
"""A block, and where it lies: (block, path, offset, length)."""

VerifiedSpan = tuple[int, str, int, int, bytes]
"""A block, where to write it, and its BLAKE3: (block, path, offset, length, hash)."""

PROCESS_ID = struct.Struct(">I")
"""What the fork server answers for each process that it was asked for."""


# To the transport process


@dataclass(frozen=True)
class Offer:
    """Open a peer connection and answer with ``LocalDescription``.

    ``patient``: a person carries the descriptions, so the other end may come minutes later.
    ``relays``: whether the other end may be reached through a relay of its own.
    """

    link: int
    ice_servers: list[dict[str, str]]
    relay_only: bool
    patient: bool = False
    relays: bool = True


@dataclass(frozen=True)
class Answer:
    """Open a peer connection for a remote offer and answer with ``LocalDescription``.

    ``patient``: go on until ``CloseLink``, however long the other end takes. ``relays`` as above.
    """

    link: int
    sdp: str
    ice_servers: list[dict[str, str]]
    relay_only: bool
    patient: bool = False
    relays: bool = True


@dataclass(frozen=True)
class TakeAnswer:
    """Hand the peer's answer to the connection that offered."""

    link: int
    sdp: str


@dataclass(frozen=True)
class CloseLink:
    """Close a peer connection."""

    link: int


@dataclass(frozen=True)
class SendControl:
    """Send one message on the control channel."""

    link: int
    data: bytes


@dataclass(frozen=True)
class Serve:
    """Send these blocks on the bulk channel as the answer to a peer's request."""

    link: int
    request: int
    spans: list[Span]


@dataclass(frozen=True)
class StopServing:
    """Leave out a block of a request; -1 all that is left of it."""

    link: int
    request: int
    block: int


@dataclass(frozen=True)
class Expect:
    """These blocks were asked for: take them, verify them, write them."""

    link: int
    request: int
    spans: list[VerifiedSpan]


@dataclass(frozen=True)
class StopExpecting:
    """A block of a request is no longer wanted; -1 all that is left of it."""

    link: int
    request: int
    block: int


@dataclass(frozen=True)
class AllowBulk:
    """Blocks may pass over a relay until so many bytes of the link have, since it opened.

    None may before the first such command; a link that no relay carries heeds none.
    """

    link: int
    relayed_bytes: int


@dataclass(frozen=True)
class RenewTurn:
    """New credentials for the TURN server of a link that stands, should it ask for others."""

    link: int
    ice_servers: list[dict[str, str]]


# From the transport process


@dataclass(frozen=True)
class LocalDescription:
    """Our offer or answer, complete with its candidates."""

    link: int
    sdp: str


@dataclass(frozen=True)
class LinkOpened:
    """Both channels are open. Fingerprints are SHA-256 of the DTLS certificates."""

    link: int
    ours: bytes
    theirs: bytes
    relayed: bool


@dataclass(frozen=True)
class LinkClosed:
    """The connection is gone, or never came up; ``fault`` when the peer broke the protocol."""

    link: int
    reason: str
    fault: bool


@dataclass(frozen=True)
class ControlReceived:
    """A message on the control channel."""

    link: int
    data: bytes


@dataclass(frozen=True)
class BlockDone:
    """A block came in whole. ``verdict``: ``verified``, ``rejected``, or why it can't be kept."""

    link: int
    request: int
    block: int
    verdict: str


@dataclass(frozen=True)
class Traffic:
    """Payload bytes on the bulk channel since the last report."""

    link: int
    down: int
    up: int


@dataclass(frozen=True)
class Relayed:
    """Bytes that have passed over a relay since the link opened (``relay_meter``).

    ``own`` of both are those over this node's own allocation at a TURN server.
    """

    link: int
    down: int
    up: int
    own: int = 0


@dataclass(frozen=True)
class BulkHeld:
    """What ``AllowBulk`` allowed is used up: no block is sent or taken until it allows more."""

    link: int


@dataclass(frozen=True)
class PathChanged:
    """ICE has nominated another pair of addresses; ``relayed``: with a relay in it."""

    link: int
    relayed: bool


@dataclass(frozen=True)
class ServeFailed:
    """A block that we promised can't be read; the rest of the request was given up."""

    link: int
    request: int
    path: str
    reason: str


@dataclass(frozen=True)
class ServeDone:
    """A request has been sent to its end, or was cancelled."""

    link: int
    request: int


ToTransport = (
    Offer
    | Answer
    | TakeAnswer
    | CloseLink
    | SendControl
    | Serve
    | StopServing
    | Expect
    | StopExpecting
    | AllowBulk
    | RenewTurn
)
FromTransport = (
    LocalDescription
    | LinkOpened
    | LinkClosed
    | ControlReceived
    | BlockDone
    | Traffic
    | Relayed
    | BulkHeld
    | PathChanged
    | ServeFailed
    | ServeDone
)

_COMMANDS: dict[str, type[ToTransport]] = {cls.__name__: cls for cls in get_args(ToTransport)}
_EVENTS: dict[str, type[FromTransport]] = {cls.__name__: cls for cls in get_args(FromTransport)}

VERIFIED = "verified"
REJECTED = "rejected"


async def read_command(reader: asyncio.StreamReader) -> ToTransport | None:
    """Return the daemon's next command, or None when the daemon has gone."""
    return await read(reader, _COMMANDS)


async def read_event(reader: asyncio.StreamReader) -> FromTransport | None:
    """Return the transport process's next event, or None when the process has gone."""
    return await read(reader, _EVENTS)
