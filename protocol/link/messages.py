"""The control channel's messages: one msgpack array each, ``[kind, field, …]``, under 1 MiB.

Fields are positional and typed by the dataclass; a message with another number or type of fields
is the peer's fault (``RemoteProtocolError``). Blocks, requests and manifests are named as in
``swarm.vocabulary``; every request number is chosen by the side that asks.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import ClassVar, get_args, get_type_hints

import msgpack

from dreamer.protocol.errors import LocalProtocolError, RemoteProtocolError
from dreamer.protocol.ids import DIGEST_BYTES
from dreamer.protocol.limits import CONTROL_MAX_FIELDS, CONTROL_MESSAGE_MAX_BYTES
from dreamer.protocol.link.direct import DirectAnswer, DirectOpen, DirectRetire
from dreamer.protocol.link.offload_messages import OffloadMessage

PROTOCOL_VERSION = 1

Field = int | str | bytes | bool


@dataclass(frozen=True)
class Hello:
    """Who I am: my membership chain (canonical JSON) and a signature over both fingerprints."""

    kind: ClassVar[int] = 1
    version: int
    node: bytes
    chain: bytes
    signature: bytes
    capabilities: bytes


@dataclass(frozen=True)
class Ping:
    """Are you there? ``sent_us`` comes back as it is."""

    kind: ClassVar[int] = 2
    sent_us: int


@dataclass(frozen=True)
class Pong:
    """Yes."""

    kind: ClassVar[int] = 3
    sent_us: int


@dataclass(frozen=True)
class Bye:
    """I am going; why is for the log."""

    kind: ClassVar[int] = 4
    reason: str


@dataclass(frozen=True)
class Capabilities:
    """My capabilities (canonical JSON) have changed."""

    kind: ClassVar[int] = 5
    capabilities: bytes


@dataclass(frozen=True)
class Follow:
    """Tell me which blocks of this model you hold, now and as you gain more."""

    kind: ClassVar[int] = 10
    manifest: bytes


@dataclass(frozen=True)
class Unfollow:
    """I no longer need to know."""

    kind: ClassVar[int] = 11
    manifest: bytes


@dataclass(frozen=True)
class Have:
    """The blocks I hold, as a bitfield; empty when I don't have the model at all."""

    kind: ClassVar[int] = 12
    manifest: bytes
    blocks: bytes


@dataclass(frozen=True)
class Gained:
    """``count`` more blocks from ``first``."""

    kind: ClassVar[int] = 13
    manifest: bytes
    first: int
    count: int


@dataclass(frozen=True)
class Want:
    """Send me these blocks in order, on the bulk channel or over our direct connection."""

    kind: ClassVar[int] = 14
    request: int
    manifest: bytes
    first: int
    count: int
    direct: bool


@dataclass(frozen=True)
class CancelWant:
    """Don't send this block of a request; -1 means all the rest of it."""

    kind: ClassVar[int] = 15
    request: int
    block: int


@dataclass(frozen=True)
class Refuse:
    """I will not answer this request (any further).

    ``busy``: ask again later. Said once more of the same request without it: ask again now.
    """

    kind: ClassVar[int] = 16
    request: int
    busy: bool
    reason: str


@dataclass(frozen=True)
class BulkHeld:
    """The relay below this link may carry no more blocks of mine or yours; or may again."""

    kind: ClassVar[int] = 17
    held: bool


@dataclass(frozen=True)
class GetObject:
    """Send me a piece of the object (manifest, outboard) with this hash."""

    kind: ClassVar[int] = 20
    request: int
    digest: bytes
    offset: int


@dataclass(frozen=True)
class ObjectPiece:
    """A piece of an object of ``total`` bytes."""

    kind: ClassVar[int] = 21
    request: int
    total: int
    offset: int
    data: bytes


@dataclass(frozen=True)
class Around:
    """Whom I can reach, and over how many links: changes since I told you last (``routes``)."""

    kind: ClassVar[int] = 40
    news: bytes


@dataclass(frozen=True)
class Pass:
    """A signal (JSON) from one member for another, to be passed on over ``hops`` links at most."""

    kind: ClassVar[int] = 41
    origin: bytes
    target: bytes
    hops: int
    body: bytes


@dataclass(frozen=True)
class Seek:
    """Who holds this model? ``request`` is a name drawn by who asks; pass it on ``hops`` links."""

    kind: ClassVar[int] = 42
    request: bytes
    manifest: bytes
    hops: int


@dataclass(frozen=True)
class Held:
    """This node holds, or fetches, what was sought."""

    kind: ClassVar[int] = 43
    request: bytes
    node: bytes


@dataclass(frozen=True)
class RegistryIs:
    """My copy of the room's registry is the object with this hash."""

    kind: ClassVar[int] = 44
    digest: bytes


@dataclass(frozen=True)
class Revoked:
    """A node was removed from the room: ``rooms.revocations.Revocation`` as canonical JSON."""

    kind: ClassVar[int] = 45
    statement: bytes


Message = (
    Hello
    | Ping
    | Pong
    | Bye
    | Capabilities
    | Follow
    | Unfollow
    | Have
    | Gained
    | Want
    | CancelWant
    | Refuse
    | BulkHeld
    | GetObject
    | ObjectPiece
    | Around
    | Pass
    | Seek
    | Held
    | RegistryIs
    | Revoked
    | DirectOpen
    | DirectAnswer
    | DirectRetire
    | OffloadMessage
)

_KINDS: dict[int, type[Message]] = {cls.kind: cls for cls in get_args(Message)}
_NAMES = (
    *("node", "manifest", "digest", "origin", "target"),
    *("fingerprint", "token", "host"),
)
"""Fields that name something: 32 bytes each, or a stranger could have us keep megabytes."""

_FIELDS: dict[int, list[type]] = {
    kind: [get_type_hints(cls)[field.name] for field in fields(cls)] for kind, cls in _KINDS.items()
}


def encode(message: Message) -> bytes:
    """Return the bytes of a message.

    Raises:
        LocalProtocolError: it is larger than the control channel takes, or has no such form.
    """
    values = [getattr(message, field.name) for field in fields(message)]
    try:
        data: bytes = msgpack.packb([message.kind, *values])
    except (ValueError, OverflowError) as error:
        what = type(message).__name__
        raise LocalProtocolError(f"a {what} that can't be put on the wire: {error}") from error
    if len(data) > CONTROL_MESSAGE_MAX_BYTES:
        raise LocalProtocolError(f"a {type(message).__name__} of {len(data)} bytes is too large")
    return data


def decode(data: bytes) -> Message:
    """Return the message in ``data``.

    Raises:
        RemoteProtocolError: too large, not msgpack, unknown kind, wrong fields.
    """
    if len(data) > CONTROL_MESSAGE_MAX_BYTES:
        raise RemoteProtocolError(f"a control message of {len(data)} bytes")
    try:
        # The bounds keep a small frame from claiming a large array: see msgpack's max_*_len.
        values = msgpack.unpackb(
            data,
            max_array_len=CONTROL_MAX_FIELDS,
            max_map_len=0,
            max_ext_len=0,
            max_str_len=CONTROL_MESSAGE_MAX_BYTES,
            max_bin_len=CONTROL_MESSAGE_MAX_BYTES,
        )
    except (ValueError, msgpack.StackError, msgpack.ExtraData, msgpack.FormatError) as error:
        raise RemoteProtocolError(f"a control message that is not msgpack: {error}") from error
    return _build(values)


def _build(values: object) -> Message:
    if not isinstance(values, list) or not values or type(values[0]) is not int:
        raise RemoteProtocolError("a control message that is not an array with a kind")
    kind, *given = values
    cls = _KINDS.get(kind)
    if cls is None:
        raise RemoteProtocolError(f"a control message of unknown kind {kind}")
    expected = _FIELDS[kind]
    if len(given) != len(expected) or any(
        type(value) is not wanted for value, wanted in zip(given, expected, strict=True)
    ):
        raise RemoteProtocolError(f"a {cls.__name__} with wrong fields")
    message = cls(*given)
    if any(len(getattr(message, name, b"\0" * DIGEST_BYTES)) != DIGEST_BYTES for name in _NAMES):
        raise RemoteProtocolError(f"a {cls.__name__} with a name that is not {DIGEST_BYTES} bytes")
    return message
