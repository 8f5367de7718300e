"""Where a room's origin is, ``s3://bucket/prefix``, and how content is named in it.

Keys are ``PREFIX/files/HEX`` and ``PREFIX/objects/HEX``, HEX being 64 digits of BLAKE3, and
``PREFIX/files/HEX.zst`` where that file is kept in zstd's seekable format; the room's
registry may be at ``PREFIX/rooms/ROOM/manifest.json``, ROOM being the room's id. No others are ever
signed, so whoever signs URLs for somebody else can tell what may be asked for. An origin
that anybody can read may have copies by name, ``PREFIX/torrents/NAME/PATH``, for torrent clients.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from dreamer.protocol.errors import InputError
from dreamer.protocol.ids import DIGEST_BYTES, Digest, RoomId
from dreamer.protocol.limits import URL_MAX_CHARS

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_HEX = rf"[0-9a-f]{{{2 * DIGEST_BYTES}}}"
_NAME = re.compile(rf"(files|objects)/({_HEX})|(files)/({_HEX})\.zst")


@dataclass(frozen=True)
class OriginAddress:
    """A bucket, the prefix of our keys in it, and the endpoint (None: AWS's own)."""

    bucket: str
    prefix: str
    endpoint_url: str | None

    def __str__(self) -> str:
        at = f" at {self.endpoint_url}" if self.endpoint_url else ""
        return f"s3://{self.bucket}/{self.prefix}{at}"

    def object_key(self, digest: Digest) -> str:
        """Return the key of a manifest or outboard."""
        return self._below(f"objects/{digest.hex()}")

    def file_key(self, digest: Digest) -> str:
        """Return the key of a file."""
        return self._below(f"files/{digest.hex()}")

    def encoded_key(self, digest: Digest) -> str:
        """Return the key of a file that is kept as zstd."""
        return self._below(f"files/{digest.hex()}.zst")

    def digest_of(self, key: str) -> tuple[str, Digest] | None:
        """Return ``files`` or ``objects``, and the digest that a key names; None if not ours."""
        found = _NAME.fullmatch("/".join(key.split("/")[-2:]))
        # Compared whole: what only starts with the prefix may leave it, or be a neighbour's.
        if found is None or key != self._below(found[0]):
            return None
        return found[1] or found[3], Digest(bytes.fromhex(found[2] or found[4]))

    def registry_key(self, room: RoomId) -> str:
        """Return the key of a room's registry, for rooms that keep it at their origin.

        The one key that is rewritten: only ever on a condition.
        """
        return self._below(f"rooms/{room.hex()}/manifest.json")

    def named_key(self, torrent: str, path: str) -> str:
        """Return the key of a public model's file by name, for torrent clients."""
        return self._below(f"torrents/{torrent}/{path}")

    @property
    def web_seed(self) -> str:
        """The URL below which ``named_key`` is read by HTTP, without credentials (BEP 19)."""
        # Names with dots would not fit the certificate of a host of their own; AWS takes both.
        base = self.endpoint_url or "https://s3.amazonaws.com"
        return f"{base.rstrip('/')}/{self.bucket}/{self._below('torrents')}/"

    def check_key(self, key: str) -> None:
        """Refuse a key that isn't one of ours.

        Raises:
            InputError: it is in another place, or names no content.
        """
        if self.digest_of(key) is None:
            raise InputError(
                f"keys of this room are {self}/files/HEX, …/files/HEX.zst and …/objects/HEX (64 "
                f"lower-case digits), not {key!r:.200}"
            )

    def check_registry_key(self, key: str, room: RoomId) -> None:
        """Refuse a key that isn't the one of a room's registry.

        Raises:
            InputError: it is another, perhaps that of another room in the same bucket.
        """
        if key != self.registry_key(room):
            raise InputError(
                f"the registry of this room is s3://{self.bucket}/{self.registry_key(room)}, "
                f"not {key!r:.200}"
            )

    def _below(self, name: str) -> str:
        return f"{self.prefix}/{name}" if self.prefix else name


def parse_origin(url: str, endpoint_url: str | None) -> OriginAddress:
    """Return the address that a URL names.

    Raises:
        InputError: not ``s3://BUCKET[/PREFIX]``, or the endpoint is not an http(s) URL.
    """
    try:
        parts = urlsplit(url)
        endpoint = urlsplit(endpoint_url or "https://none")
        good_port = endpoint.port != 0
    except ValueError as error:
        raise InputError(f"an origin or endpoint can't be read: {error}") from error
    good = parts.scheme == "s3" and _BUCKET.fullmatch(parts.netloc)
    if not good or parts.query or parts.fragment or len(url) > URL_MAX_CHARS:
        raise InputError(f"an origin is given as s3://BUCKET/PREFIX, not {url!r:.200}")
    # A password in a URL would end up in logs and in the room's registry.
    named = endpoint.scheme in ("http", "https") and endpoint.hostname and good_port
    if not named or endpoint.username or endpoint.query or endpoint.fragment:
        raise InputError(f"an endpoint is given as https://HOST[:PORT], not {endpoint_url!r:.200}")
    return OriginAddress(parts.netloc, parts.path.strip("/"), endpoint_url)
