"""What a node must know of a room to meet the others: its key, name, trackers and origin."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum
from urllib.parse import SplitResult, urlsplit

from blake3 import blake3

from dreamer.protocol.canonical import Json
from dreamer.protocol.errors import InputError
from dreamer.protocol.ids import InfoHash, ManifestId, RoomId, from_hex
from dreamer.protocol.limits import ROOM_MAX_TRACKERS, ROOM_NAME_MAX_CHARS, URL_MAX_CHARS
from dreamer.protocol.rooms import fields

SECRET_BYTES = 32
INFO_HASH_BYTES = 20

_NAMES = ("room", "name", "trackers", "origin", "endpoint_url", "secret")
_ROOM_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_ORIGIN = re.compile(r"s3://[a-z0-9][a-z0-9.-]{1,61}[a-z0-9](/[!-~]*)?")
_REGISTRY = "registry"
_HTTP_SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}


class RegistryPlace(StrEnum):
    """Where the one copy of a room's registry is that all changes are made to."""

    TRACKER = "tracker"
    """At the room's first tracker; in a room that has none, each member keeps one of its own."""
    ORIGIN = "origin"
    """In the room's bucket."""


@dataclass(frozen=True)
class RoomCard:
    """The facts every member shares. ``swarm_secret`` (32 bytes) is not for outsiders.

    ``trackers`` are base URLs without a path's last slash; ``origin`` is ``s3://bucket/prefix``
    and ``endpoint_url`` the S3 server it is at, when it isn't Amazon's.
    """

    room_id: RoomId
    name: str
    trackers: tuple[str, ...]
    origin: str | None
    endpoint_url: str | None
    swarm_secret: bytes
    registry: RegistryPlace = RegistryPlace.TRACKER

    def __post_init__(self) -> None:
        check_room_name(self.name)
        if len(self.trackers) > ROOM_MAX_TRACKERS:
            raise InputError(f"a room has {ROOM_MAX_TRACKERS} trackers at most")
        if self.trackers != tuple(map(tracker_base_url, self.trackers)):
            raise InputError("a room card holds the base URLs of its trackers")
        if self.origin is not None:
            check_origin(self.origin)
        if self.endpoint_url is not None:
            check_endpoint_url(self.endpoint_url)
        if len(self.swarm_secret) != SECRET_BYTES:
            raise InputError(f"a swarm secret has {SECRET_BYTES} bytes")
        if self.registry is RegistryPlace.ORIGIN and self.origin is None:
            raise InputError("a registry is kept at an origin only where the room has one")

    def __repr__(self) -> str:
        return f"RoomCard({self.name!r}, {self.room_id.hex()[:8]}, trackers={self.trackers})"

    def to_json(self) -> Json:
        """Return the card as a JSON object, secret included."""
        # Left out where it is as it always was: cards of older nodes stay the same, and theirs read
        # ours. One that doesn't know of the other place refuses the card, as it must.
        kept = {} if self.registry is RegistryPlace.TRACKER else {_REGISTRY: str(self.registry)}
        return {
            **kept,
            "room": self.room_id.hex(),
            "name": self.name,
            "trackers": list(self.trackers),
            "origin": self.origin,
            "endpoint_url": self.endpoint_url,
            "secret": self.swarm_secret.hex(),
        }


def parse_card(value: object) -> RoomCard:
    """Return the room card in a JSON value.

    Raises:
        InputError: a field is missing, unknown, malformed or out of bounds.
    """
    given = value if isinstance(value, dict) else {}
    place = parse_registry_place(given.get(_REGISTRY, RegistryPlace.TRACKER))
    names = (*_NAMES, _REGISTRY) if _REGISTRY in given else _NAMES
    said = fields.exact(value, names, "a room card")
    trackers = fields.items(said["trackers"], "trackers", ROOM_MAX_TRACKERS)
    return RoomCard(
        room_id=RoomId(from_hex(said["room"], "a room id")),
        name=fields.text(said["name"], "a room's name"),
        trackers=tuple(fields.text(url, "a tracker's URL") for url in trackers),
        origin=_optional_text(said["origin"], "origin"),
        endpoint_url=_optional_text(said["endpoint_url"], "endpoint_url"),
        swarm_secret=from_hex(said["secret"], "a swarm secret", SECRET_BYTES),
        registry=place,
    )


def parse_registry_place(value: object) -> RegistryPlace:
    """Return the place that a word names.

    Raises:
        InputError: it names none.
    """
    try:
        return RegistryPlace(fields.text(value, "registry"))
    except ValueError as error:
        known = " or ".join(RegistryPlace)
        raise InputError(f"a registry is kept at the {known}, not {value!r:.40}") from error


def swarm_hash(secret: bytes, manifest_id: ManifestId) -> InfoHash:
    """Return the info hash of a model's swarm in a room: nobody without the secret can make it."""
    return InfoHash(blake3(manifest_id, key=secret).digest(length=INFO_HASH_BYTES))


def check_room_name(name: str) -> None:
    """Refuse what can't name a room.

    Raises:
        InputError: it is empty, too long, or holds other than letters, digits, ``_``, ``.``, ``-``.
    """
    if len(name) > ROOM_NAME_MAX_CHARS or not _ROOM_NAME.fullmatch(name):
        raise InputError(
            f"a room's name has up to {ROOM_NAME_MAX_CHARS} letters, digits, '_', '.' or '-' and "
            f"begins with a letter or digit, not {name!r:.80}"
        )


def tracker_base_url(url: str) -> str:
    """Return the base URL of a tracker, however it was written: ``ws://h/announce`` → ``http://h``.

    Raises:
        InputError: it is no http, https, ws or wss URL, or holds a query or a password.
    """
    parts = _split(url, _HTTP_SCHEMES, "a tracker's URL")
    path = parts.path.rstrip("/").removesuffix("/announce").rstrip("/")
    return f"{_HTTP_SCHEMES[parts.scheme]}://{parts.netloc.lower()}{path}"


def check_endpoint_url(url: str) -> None:
    """Refuse what can't be the URL of an S3 server.

    Raises:
        InputError: it is no http or https URL, or holds a query or a password.
    """
    _split(url, ("http", "https"), "an endpoint URL")


def check_origin(origin: str) -> None:
    """Refuse what isn't ``s3://BUCKET`` or ``s3://BUCKET/PREFIX``.

    Raises:
        InputError: it isn't.
    """
    if len(origin) > URL_MAX_CHARS or not _ORIGIN.fullmatch(origin):
        raise InputError(f"an origin is written s3://BUCKET/PREFIX, not {origin!r:.80}")


def _split(url: str, schemes: Collection[str], what: str) -> SplitResult:
    wanted = f"{what} must be like {', '.join(f'{s}://HOST' for s in schemes)}, not {url!r:.80}"
    try:
        parts = urlsplit(url)
        usable = bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError as error:
        raise InputError(wanted) from error
    # urlsplit silently drops line breaks and tabs, so what it checked isn't what we were given.
    printable = url.isascii() and url.isprintable() and " " not in url
    if not (usable and printable and len(url) <= URL_MAX_CHARS) or parts.scheme not in schemes:
        raise InputError(wanted)
    # URLs are logged and shown; a password in one would be, too.
    if parts.query or parts.fragment or "@" in parts.netloc:
        raise InputError(f"{what} can't hold a query, a fragment or a password: leave them out")
    return parts


def _optional_text(value: object, what: str) -> str | None:
    return None if value is None else fields.text(value, what)
