"""What a key below a room's prefix is: content, a copy by name, a temporary upload, a push's lease.

::

    PREFIX/files/HEX, PREFIX/objects/HEX                      named by BLAKE3
    PREFIX/torrents/dreamer-SHORT/PATH                        copies by name, of public models
    PREFIX/temporary/DAYS/EXPIRES/files/HEX, …/objects/HEX    of temporary uploads
    PREFIX/pushes/ROOM/PUSH                                   what a push under way relies on
    PREFIX/rooms/ROOM/manifest.json, …/probe-HEX              a room's registry
    PREFIX/collection                                         the mark of who removes garbage

DAYS is one of ``LIFETIMES_DAYS``, so that a store's lifecycle rule for each of them removes what
is below it; EXPIRES, in seconds since the epoch, lets a sweep do the same without asking anybody.
A key that can't be read as one of these is somebody else's, and never removed.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from enum import StrEnum

from dreamer.protocol.durations import DAY_S, duration
from dreamer.protocol.errors import InputError
from dreamer.protocol.ids import DIGEST_BYTES, Digest, RoomId
from dreamer.protocol.origin import OriginAddress
from dreamer.protocol.origin_limits import LIFETIMES_DAYS, TEMPORARY_MAX_TTL_S, TEMPORARY_MIN_TTL_S

PUSH_ID_BYTES = 16

_HEX = rf"[0-9a-f]{{{2 * DIGEST_BYTES}}}"
_CONTENT = re.compile(rf"({_HEX})(?:\.zst)?")
_TEMPORARY = re.compile(
    rf"[1-9][0-9]{{0,2}}/([1-9][0-9]{{8,11}})/(?:files|objects)/{_HEX}(?:\.zst)?"
)
_COPY = re.compile(r"dreamer-([0-9a-f]{8})/.+", re.DOTALL)
_PUSH = re.compile(rf"({_HEX})/([0-9a-f]{{{2 * PUSH_ID_BYTES}}})")
_REGISTRY = re.compile(rf"({_HEX})/manifest\.json")
_PROBE = re.compile(rf"({_HEX})/probe-[0-9a-f]{{16}}")


class Folder(StrEnum):
    """The folders below a room's prefix that its garbage is looked for in."""

    FILES = "files"
    OBJECTS = "objects"
    COPIES = "torrents"
    TEMPORARY = "temporary"
    PUSHES = "pushes"
    ROOMS = "rooms"


@dataclass(frozen=True)
class ContentKey:
    """Content named by its hash, in whichever form: a file, or what describes a model."""

    digest: Digest
    is_file: bool


@dataclass(frozen=True)
class CopyKey:
    """A public model's file by name; ``short_id`` is the model's."""

    short_id: str


@dataclass(frozen=True)
class TemporaryKey:
    """Content that is over at ``expires_at`` (seconds since the epoch)."""

    expires_at: int


@dataclass(frozen=True)
class PushKey:
    """The lease of a push into ``room``."""

    room: RoomId


@dataclass(frozen=True)
class RegistryKey:
    """The registry of ``room``, or (``probe``) what was left of asking what the store can do."""

    room: RoomId
    probe: bool


OwnKey = ContentKey | CopyKey | TemporaryKey | PushKey | RegistryKey


def folder_prefix(address: OriginAddress, folder: Folder) -> str:
    """Return what all keys of a folder begin with."""
    return f"{address.prefix}/{folder}/" if address.prefix else f"{folder}/"


def parse_key(address: OriginAddress, folder: Folder, key: str) -> OwnKey | None:
    """Return what a key of a folder is; None: it isn't one of ours."""
    prefix = folder_prefix(address, folder)
    if not key.startswith(prefix):
        return None
    name = key.removeprefix(prefix)
    match folder:
        case Folder.FILES | Folder.OBJECTS:
            found = _CONTENT.fullmatch(name)
            is_file = folder is Folder.FILES
            return ContentKey(Digest(bytes.fromhex(found[1])), is_file) if found else None
        case Folder.COPIES:
            found = _COPY.fullmatch(name)
            return CopyKey(found[1]) if found else None
        case Folder.TEMPORARY:
            found = _TEMPORARY.fullmatch(name)
            return TemporaryKey(int(found[1])) if found else None
        case Folder.PUSHES:
            found = _PUSH.fullmatch(name)
            return PushKey(RoomId(bytes.fromhex(found[1]))) if found else None
        case Folder.ROOMS:
            found = _REGISTRY.fullmatch(name) or _PROBE.fullmatch(name)
            probe = not name.endswith("manifest.json")
            return RegistryKey(RoomId(bytes.fromhex(found[1])), probe) if found else None


def lease_key(address: OriginAddress, room: RoomId, push_id: bytes) -> str:
    """Return the key of a push's lease."""
    return f"{folder_prefix(address, Folder.PUSHES)}{room.hex()}/{push_id.hex()}"


def collection_key(address: OriginAddress) -> str:
    """Return the key of the mark that a collection leaves; see ``garbage``."""
    return f"{address.prefix}/collection" if address.prefix else "collection"


def check_member_key(address: OriginAddress, room: RoomId, key: str, *, reads: bool) -> None:
    """Refuse a key that a member of ``room`` has no business with.

    Members read and write content, temporary or not, and leases of their room; the mark of a
    collection they read.

    Raises:
        InputError: it is another.
    """
    own = parse_key(address, Folder.TEMPORARY, key) or parse_key(address, Folder.PUSHES, key)
    if isinstance(own, TemporaryKey) or own == PushKey(room):
        return
    if key != collection_key(address) or not reads:
        address.check_key(key)


def expiry_after(ttl_s: float, now: float) -> int:
    """Return when an upload ends (epoch seconds) that is to last ``ttl_s`` seconds from ``now``.

    It is up to three seconds more, for the last two bits of the time say in which folder of
    lifetimes the upload is: so the registry's entry is enough to find it.

    Raises:
        InputError: shorter or longer than an upload may last.
    """
    if not TEMPORARY_MIN_TTL_S <= ttl_s <= TEMPORARY_MAX_TTL_S:
        raise InputError(
            f"a temporary upload lasts from {duration(TEMPORARY_MIN_TTL_S)} to "
            f"{duration(TEMPORARY_MAX_TTL_S)}, not {duration(ttl_s)}: give another --ttl (ttl_s), "
            "or push what is to stay"
        )
    folder = next(place for place, days in enumerate(LIFETIMES_DAYS) if ttl_s <= days * DAY_S)
    end = math.ceil(now + ttl_s)
    return end + (folder - end) % len(LIFETIMES_DAYS)


def temporary_prefix(address: OriginAddress, expires_at: int) -> str:
    """Return below which prefix the content of a temporary upload is: all of it, and nothing else.

    Two uploads share nothing there, for a store counts the age of what it removes from when it was
    first written.
    """
    days = LIFETIMES_DAYS[expires_at % len(LIFETIMES_DAYS)]
    return f"{folder_prefix(address, Folder.TEMPORARY)}{days}/{expires_at}"
