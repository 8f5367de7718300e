"""Where a room's origin is, ``s3://bucket/prefix``, and how content is named in it.

Keys are ``PREFIX/files/HEX`` and ``PREFIX/objects/HEX``, HEX being 64 digits of BLAKE3. No others
are ever signed, so whoever signs URLs for somebody else can tell what may be asked for. An origin
that anybody can read may have copies by name, ``PREFIX/torrents/NAME/PATH``, for torrent clients.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from dreamer.protocol.errors import InputError
from dreamer.protocol.ids import DIGEST_BYTES, Digest
from dreamer.protocol.limits import URL_MAX_CHARS

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_NAME = re.compile(rf"(?:files|objects)/[0-9a-f]{{{2 * DIGEST_BYTES}}}")


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
        # Compared whole: what only starts with the prefix may leave it, or be a neighbour's.
        name = "/".join(key.split("/")[-2:])
        if _NAME.fullmatch(name) and key == self._below(name):
            return
        raise InputError(
            f"keys of this room are {self}/files/HEX and …/objects/HEX (64 lower-case digits), "
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
