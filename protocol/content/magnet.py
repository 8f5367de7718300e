"""Magnet links (BEP 9, BEP 52): what a registry says of a public model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import parse_qsl, quote

from dreamer.protocol.content.torrent_hashes import SHA1_BYTES, SHA256_BYTES
from dreamer.protocol.errors import InputError
from dreamer.protocol.ids import from_hex
from dreamer.protocol.limits import MAGNET_MAX_CHARS

_PREFIX = "magnet:?"
_V1 = "urn:btih:"
# A multihash (BEP 52): 0x12 names SHA-256, 0x20 its 32 bytes.
_V2 = "urn:btmh:1220"


@dataclass(frozen=True)
class Magnet:
    """A torrent by its info hashes (20 and 32 bytes), what it is called, and where to ask.

    ``v2`` is empty for a torrent without what came with BEP 52.
    """

    v1: bytes
    v2: bytes
    name: str
    trackers: Sequence[str] = ()
    web_seeds: Sequence[str] = ()

    def __str__(self) -> str:
        given = [("dn", self.name)]
        given += [("tr", url) for url in self.trackers]
        given += [("ws", url) for url in self.web_seeds]
        # The colons of a urn stay: some clients look for them as they are.
        topics = f"xt={_V1}{self.v1.hex()}" + (f"&xt={_V2}{self.v2.hex()}" if self.v2 else "")
        return "&".join([_PREFIX + topics, *(f"{key}={quote(one, '')}" for key, one in given)])


def parse(text: str) -> Magnet:
    """Return what a magnet link says.

    Raises:
        InputError: it is too long, or no magnet link of a hybrid or v1 torrent.
    """
    if len(text) > MAGNET_MAX_CHARS or not text.startswith(_PREFIX) or not text.isprintable():
        raise InputError(f"not a magnet link of at most {MAGNET_MAX_CHARS} characters")
    try:
        said = parse_qsl(text.removeprefix(_PREFIX), max_num_fields=64, errors="strict")
    except ValueError as error:
        raise InputError(f"a malformed magnet link: {error}") from error
    topics = [value for key, value in said if key == "xt"]
    return Magnet(
        v1=_topic(topics, _V1, SHA1_BYTES),
        v2=_topic(topics, _V2, SHA256_BYTES) if any(_V2 in topic for topic in topics) else b"",
        name=next((value for key, value in said if key == "dn"), ""),
        trackers=tuple(value for key, value in said if key == "tr"),
        web_seeds=tuple(value for key, value in said if key == "ws"),
    )


def _topic(topics: list[str], urn: str, size_bytes: int) -> bytes:
    found = [topic.removeprefix(urn) for topic in topics if topic.startswith(urn)]
    if len(found) != 1:
        raise InputError(f"a magnet link has one {urn}, and this has not")
    return from_hex(found[0], "an info hash", size_bytes)
