"""Where an origin is: ``s3://bucket/prefix``, at AWS or at an endpoint of one's own."""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from dreamer.protocol.errors import InputError
from dreamer.protocol.ids import Digest

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")


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
        return self._key("objects", digest)

    def file_key(self, digest: Digest) -> str:
        """Return the key of a file."""
        return self._key("files", digest)

    def _key(self, kind: str, digest: Digest) -> str:
        return "/".join(filter(None, (self.prefix, kind, digest.hex())))


def parse(url: str, endpoint_url: str | None) -> OriginAddress:
    """Return the address that a URL names.

    Raises:
        InputError: not ``s3://BUCKET[/PREFIX]``, or the endpoint is not an http(s) URL.
    """
    parts = urlsplit(url)
    if parts.scheme != "s3" or not _BUCKET.fullmatch(parts.netloc) or parts.query or parts.fragment:
        raise InputError(f"an origin is given as s3://BUCKET/PREFIX, not {url!r:.200}")
    if endpoint_url is not None:
        endpoint = urlsplit(endpoint_url)
        # A password in a URL would end up in logs and in the room's registry.
        if endpoint.scheme not in ("http", "https") or not endpoint.hostname or endpoint.username:
            raise InputError(
                f"an endpoint is given as https://HOST[:PORT], not {endpoint_url!r:.200}"
            )
    return OriginAddress(parts.netloc, parts.path.strip("/"), endpoint_url)
