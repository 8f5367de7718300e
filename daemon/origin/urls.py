"""The presigned URLs that a node holds: asked for several at a time, checked, used while fresh."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Protocol
from urllib.parse import parse_qs, unquote, urlsplit

from dreamer.daemon.origin.faults import OriginError
from dreamer.protocol.limits import ORIGIN_MAX_PARTS
from dreamer.protocol.origin import OriginAddress
from dreamer.protocol.presign import Operation, SignedUrls, UrlRequest
from dreamer.protocol.tracker_limits import (
    PRESIGN_PARTS_AHEAD,
    PRESIGN_URLS_KEPT,
    PRESIGNED_URL_REUSE,
)

_DEFAULT_PORTS = {"http": 80, "https": 443}


class UrlSource(Protocol):
    """Whoever signs for us (``rendezvous.signing.TrackerSigning``); blocks, for use in threads."""

    def sign(self, requests: Sequence[UrlRequest]) -> SignedUrls:
        """Return a URL for each request; raises OriginError."""
        ...


@dataclass(frozen=True)
class Held:
    """A URL, and whether it was signed just now; one that was held may have expired meanwhile."""

    url: str = field(repr=False)
    fresh: bool


class Urls:
    """Fresh URLs for one origin; thread-safe. No URL ever stands in an error."""

    def __init__(
        self,
        address: OriginAddress,
        source: UrlSource,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._address = address
        self._source = source
        self._clock = clock
        self._lock = threading.Lock()
        self._kept: dict[UrlRequest, tuple[str, float]] = {}

    def url(self, request: UrlRequest) -> Held:
        """Return a URL that will be good for a while; raises OriginError."""
        with self._lock:
            kept = self._kept.get(request)
        if kept is not None and kept[1] > self._clock():
            return Held(kept[0], fresh=False)
        return Held(self._ask(request), fresh=True)

    def forget(self, request: UrlRequest, held: Held) -> None:
        """Drop a URL that was refused, unless another thread has a newer one already."""
        with self._lock:
            kept = self._kept.get(request)
            if kept is not None and kept[0] == held.url:
                del self._kept[request]

    def _ask(self, request: UrlRequest) -> str:
        # Not under the lock: the threads of an upload would wait for one answer after the other.
        wanted = _with_what_follows(request)
        asked_at = self._clock()
        signed = self._source.sign(wanted)
        until = asked_at + signed.ttl_s * PRESIGNED_URL_REUSE
        for each, url in zip(wanted, signed.urls, strict=True):
            check_url(self._address, each, url)
        with self._lock:
            for each, url in zip(wanted, signed.urls, strict=True):
                self._kept.pop(each, None)
                self._kept[each] = (url, until)
            while len(self._kept) > PRESIGN_URLS_KEPT:
                del self._kept[next(iter(self._kept))]
        return signed.urls[0]


def check_url(address: OriginAddress, request: UrlRequest, url: str) -> None:
    """Refuse a URL that isn't for this key in the room's own bucket.

    A tracker that says where our bytes go, or has us call on machines that only we can reach,
    would have more power than to introduce.

    Raises:
        OriginError: it is for another place.
    """
    try:
        parts = urlsplit(url)
        place = (parts.scheme, (parts.hostname or ""), parts.port or _DEFAULT_PORTS[parts.scheme])
    except (ValueError, KeyError):
        place = ("", "", 0)
        parts = urlsplit("")
    path = unquote(parts.path)
    key = request.key
    if request.operation is Operation.LIST_UPLOADS:
        # Of the bucket, and of no more than what begins with the key.
        key = ""
        if parse_qs(parts.query).get("prefix") != [request.key]:
            path = ""
    own = f"/{address.bucket}/{key}".removesuffix("/")
    if address.endpoint_url is not None:
        endpoint = urlsplit(address.endpoint_url)
        port = endpoint.port or _DEFAULT_PORTS[endpoint.scheme]
        good = place == (endpoint.scheme, endpoint.hostname, port)
        good = good and path == endpoint.path.rstrip("/") + own
    else:
        good = place[0] == "https" and _at_amazon(place[1], address.bucket, path, key)
    if not good or "@" in parts.netloc:
        raise OriginError(
            f"the tracker signs for another place than this room's origin {address}: have its "
            "owner correct [tracker.origins]"
        )


def _at_amazon(host: str, bucket: str, path: str, key: str) -> bool:
    """Return whether a URL is of a bucket at AWS, by host name (or path, for names with dots)."""
    service, suffix = host, ""
    for end in (".amazonaws.com", ".amazonaws.com.cn"):
        if host.endswith(end):
            service, suffix = host.removesuffix(end), end
    if not suffix:
        return False
    if service.startswith(f"{bucket}.s3") and path == f"/{key}":
        service = service.removeprefix(f"{bucket}.")
    elif path != f"/{bucket}/{key}".removesuffix("/"):
        return False
    # s3, s3.REGION, s3-REGION, s3.dualstack.REGION: never a service of another name.
    return service == "s3" or service.startswith(("s3.", "s3-"))


def _with_what_follows(request: UrlRequest) -> list[UrlRequest]:
    """Return a request and those that will surely come after it."""
    # What is bound to a checksum can't be asked for before the bytes are read.
    foreseen = request.operation is Operation.PUT_PART and request.checksum is None
    if not foreseen or request.part is None:
        return [request]
    last = min(request.part + PRESIGN_PARTS_AHEAD - 1, ORIGIN_MAX_PARTS)
    return [replace(request, part=number) for number in range(request.part, last + 1)]
