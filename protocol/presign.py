"""Requests of a room's member for presigned S3 URLs, and the tracker's answer.

``POST /rooms/<room>/presign`` takes ``{"requests": [{"operation", "key", "upload"?, "part"?,
"etag"?, "checksum"?, "length"?, "region"?}, …]}`` and answers ``{"urls": […], "ttl": seconds}`` in
the same order. A URL is good for one operation on one key; it holds a signature, so it is a secret
as long as it lasts and appears in no ``repr``.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from dreamer.protocol.canonical import Json
from dreamer.protocol.checksum import Algorithm, parse_checksum
from dreamer.protocol.errors import InputError
from dreamer.protocol.limits import MODEL_MAX_BYTES, ORIGIN_MAX_PARTS
from dreamer.protocol.rooms import fields
from dreamer.protocol.tracker_limits import (
    PRESIGN_MAX_PER_REQUEST,
    PRESIGN_UPLOAD_ID_MAX_CHARS,
    PRESIGNED_URL_MAX_CHARS,
    TRACKER_ETAG_MAX_CHARS,
)


class Operation(StrEnum):
    """What a URL lets its holder do."""

    GET = "get"
    HEAD = "head"
    PUT = "put"
    CREATE_UPLOAD = "create-upload"
    PUT_PART = "put-part"
    LIST_PARTS = "list-parts"
    COMPLETE_UPLOAD = "complete-upload"
    ABORT_UPLOAD = "abort-upload"
    LIST_UPLOADS = "list-uploads"
    READ_REGISTRY = "read-registry"
    WRITE_REGISTRY = "write-registry"

    @property
    def reads(self) -> bool:
        """Whether every member may: everything else is part of writing."""
        return self in (Operation.GET, Operation.HEAD, Operation.READ_REGISTRY)

    @property
    def method(self) -> str:
        """The HTTP method that the URL is for."""
        return _METHODS[self]

    @property
    def of_registry(self) -> bool:
        """Whether it is about the room's registry, and not about content."""
        return self in (Operation.READ_REGISTRY, Operation.WRITE_REGISTRY)

    @property
    def in_upload(self) -> bool:
        """Whether it is about a multipart upload that was begun before."""
        return self in _IN_UPLOAD


_METHODS = {
    Operation.GET: "GET",
    Operation.HEAD: "HEAD",
    Operation.PUT: "PUT",
    Operation.CREATE_UPLOAD: "POST",
    Operation.PUT_PART: "PUT",
    Operation.LIST_PARTS: "GET",
    Operation.COMPLETE_UPLOAD: "POST",
    Operation.ABORT_UPLOAD: "DELETE",
    Operation.LIST_UPLOADS: "GET",
    Operation.READ_REGISTRY: "GET",
    Operation.WRITE_REGISTRY: "PUT",
}
_IN_UPLOAD = (
    Operation.PUT_PART,
    Operation.LIST_PARTS,
    Operation.COMPLETE_UPLOAD,
    Operation.ABORT_UPLOAD,
)
_SENDING = (Operation.PUT, Operation.PUT_PART)
# One tag (RFC 9110, 8.8.3), in quotes or not: no list of several, and no "*", which would stand for
# whatever there is.
_ETAG = re.compile(r'("?)[!#-)+\--~]+\1')
_NAMES = ("operation", "key", "upload", "part", "etag", "checksum", "length", "region")
_LEFT_OUT = dict.fromkeys(_NAMES[2:])
_OF_THE_WHOLE = {"x-amz-checksum-type": "FULL_OBJECT"}
_REGION = re.compile(r"[a-z0-9-]{1,40}")


@dataclass(frozen=True)
class UrlRequest:
    """One URL that is asked for. ``part`` counts from 1; for list-parts it is the last one known.

    ``etag`` is that of the registry which is to be replaced; None where there is none yet.
    ``checksum`` (``protocol.checksum``) and ``length`` in bytes are those of the body, to which the
    URL is then bound. Of an upload that is begun or completed the checksum is ``crc32``, and that
    of the whole: S3 must hear at its beginning of what kind there will be. ``region`` is that of
    the bucket, where the store has said that it is another than the tracker's.

    Raises:
        InputError: from the constructor: the upload or the part is missing, too many or bad.
    """

    operation: Operation
    key: str
    upload: str | None = None
    part: int | None = None
    etag: str | None = None
    checksum: str | None = None
    length: int | None = None
    region: str | None = None

    def __post_init__(self) -> None:
        self._check_body()
        if (self.upload is not None) != self.operation.in_upload:
            wanted = "needs the id of an upload" if self.operation.in_upload else "takes no upload"
            raise InputError(f"{self.operation} {wanted}")
        if self.upload is not None and not _sound(self.upload):
            raise InputError("an upload's id is empty, too long or unprintable")
        takes_part = self.operation in (Operation.PUT_PART, Operation.LIST_PARTS)
        if (self.part is None and self.operation is Operation.PUT_PART) or (
            self.part is not None and not (takes_part and 1 <= self.part <= ORIGIN_MAX_PARTS)
        ):
            raise InputError(
                f"only put-part and list-parts have a part, 1 to {ORIGIN_MAX_PARTS}, "
                f"not {self.operation} with {self.part}"
            )
        if self.etag is not None and self.operation is not Operation.WRITE_REGISTRY:
            raise InputError(f"{self.operation} takes no etag")
        if self.etag is not None and not sound_etag(self.etag):
            raise InputError('an etag is one tag, and neither a list nor "*"')

    def _check_body(self) -> None:
        sends = self.operation in _SENDING
        if self.checksum is not None:
            if self.operation is Operation.CREATE_UPLOAD:
                good = self.checksum == Algorithm.CRC32
            else:
                kind = parse_checksum(self.checksum).algorithm
                whole = self.operation is Operation.COMPLETE_UPLOAD and kind is Algorithm.CRC32
                good = sends or whole
            if not good:
                raise InputError(f"{self.operation} takes no such checksum")
        if self.length is not None and not (sends and 0 <= self.length <= MODEL_MAX_BYTES):
            raise InputError(f"{self.operation} takes no length, or not {self.length}")
        if self.region is not None and not _REGION.fullmatch(self.region):
            raise InputError(f"a region is named by letters, digits and -, not {self.region!r:.80}")

    @property
    def condition(self) -> dict[str, str]:
        """The HTTP headers that are part of the signature, and so must be sent with the URL.

        With them no registry is ever overwritten by somebody who has not seen it (RFC 9110, 13.1).
        """
        if self.operation is not Operation.WRITE_REGISTRY:
            return {}
        return write_condition(self.etag)

    @property
    def headers(self) -> dict[str, str]:
        """All headers that are part of the signature but the length, to be sent with the URL."""
        if self.checksum is None:
            return self.condition
        if self.operation is Operation.CREATE_UPLOAD:
            return {"x-amz-checksum-algorithm": "CRC32", **_OF_THE_WHOLE}
        of_body = parse_checksum(self.checksum)
        completes = self.operation is Operation.COMPLETE_UPLOAD
        return {of_body.header: of_body.value, **(_OF_THE_WHOLE if completes else {})}

    def to_json(self) -> Json:
        """Return the request as a JSON object."""
        said = {name: getattr(self, name) for name in _NAMES}
        return {name: value for name, value in said.items() if value is not None}


@dataclass(frozen=True)
class SignedUrls:
    """URLs in the order they were asked for, good for ``ttl_s`` seconds from when they came."""

    urls: tuple[str, ...] = field(repr=False)
    ttl_s: int

    def to_json(self) -> Json:
        """Return the answer as a JSON object."""
        return {"urls": list(self.urls), "ttl": self.ttl_s}


def write_condition(etag: str | None) -> dict[str, str]:
    """Return the headers with which a document that has ``etag`` is replaced, or the first made."""
    return {"If-None-Match": "*"} if etag is None else {"If-Match": etag}


def sound_etag(etag: str) -> bool:
    """Return whether an ETag is one, and can stand in a header of ours."""
    return len(etag) <= TRACKER_ETAG_MAX_CHARS and _ETAG.fullmatch(etag) is not None


def requests_to_json(requests: Sequence[UrlRequest]) -> Json:
    """Return what is posted."""
    return {"requests": [request.to_json() for request in requests]}


def parse_requests(value: object) -> tuple[UrlRequest, ...]:
    """Return what a member asks for.

    Raises:
        InputError: it is malformed, empty, or too much at once.
    """
    said = fields.exact(value, ("requests",), "a request for URLs")
    asked = fields.items(said["requests"], "requests", PRESIGN_MAX_PER_REQUEST)
    if not asked:
        raise InputError("requests can't be empty")
    return tuple(_parse_request(each) for each in asked)


def parse_signed(value: object, count: int) -> SignedUrls:
    """Return a tracker's answer to ``count`` requests.

    Raises:
        InputError: it is malformed, or has another number of URLs.
    """
    said = fields.exact(value, ("urls", "ttl"), "an answer with URLs")
    urls = [fields.text(url, "a URL") for url in fields.items(said["urls"], "urls", count)]
    good = all(len(url) <= PRESIGNED_URL_MAX_CHARS and _plain(url) for url in urls)
    ttl_s = fields.whole(said["ttl"], "a ttl")
    if len(urls) != count or not good or ttl_s <= 0:
        raise InputError("an answer with other URLs than those asked for")
    return SignedUrls(tuple(urls), ttl_s)


def _parse_request(value: object) -> UrlRequest:
    given = value if isinstance(value, dict) else {}
    said = fields.exact({**_LEFT_OUT, **given}, _NAMES, "a request for a URL")
    try:
        operation = Operation(fields.text(said["operation"], "operation"))
    except ValueError as error:
        known = ", ".join(Operation)
        raise InputError(f"operation must be one of {known}, not {given['operation']!r:.40}") from (
            error
        )
    texts, wholes = ("upload", "etag", "checksum", "region"), ("part", "length")
    optional: dict[str, Any] = {
        **{name: fields.text(said[name], name) for name in texts if said[name] is not None},
        **{name: fields.whole(said[name], name) for name in wholes if said[name] is not None},
    }
    return UrlRequest(operation, fields.text(said["key"], "key"), **optional)


def _sound(upload: str) -> bool:
    return 0 < len(upload) <= PRESIGN_UPLOAD_ID_MAX_CHARS and _plain(upload)


def _plain(text: str) -> bool:
    return text.isascii() and text.isprintable()
