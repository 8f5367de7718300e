"""Requests of a room's member for presigned S3 URLs, and the tracker's answer.

``POST /rooms/<room>/presign`` takes ``{"requests": [{"operation", "key", "upload"?, "part"?}, …]}``
and answers ``{"urls": […], "ttl": seconds}`` in the same order. A URL is good for one operation on
one key; it holds a signature, so it is a secret as long as it lasts and appears in no ``repr``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from dreamer.protocol.canonical import Json
from dreamer.protocol.errors import InputError
from dreamer.protocol.limits import ORIGIN_MAX_PARTS
from dreamer.protocol.rooms import fields
from dreamer.protocol.tracker_limits import (
    PRESIGN_MAX_PER_REQUEST,
    PRESIGN_UPLOAD_ID_MAX_CHARS,
    PRESIGNED_URL_MAX_CHARS,
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

    @property
    def reads(self) -> bool:
        """Whether every member may: everything else is part of writing."""
        return self in (Operation.GET, Operation.HEAD)

    @property
    def method(self) -> str:
        """The HTTP method that the URL is for."""
        return _METHODS[self]

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
}
_IN_UPLOAD = (
    Operation.PUT_PART,
    Operation.LIST_PARTS,
    Operation.COMPLETE_UPLOAD,
    Operation.ABORT_UPLOAD,
)
_NAMES = ("operation", "key", "upload", "part")


@dataclass(frozen=True)
class UrlRequest:
    """One URL that is asked for. ``part`` counts from 1; for list-parts it is the last one known.

    Raises:
        InputError: from the constructor: the upload or the part is missing, too many or bad.
    """

    operation: Operation
    key: str
    upload: str | None = None
    part: int | None = None

    def __post_init__(self) -> None:
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
    said = fields.exact({"upload": None, "part": None, **given}, _NAMES, "a request for a URL")
    try:
        operation = Operation(fields.text(said["operation"], "operation"))
    except ValueError as error:
        known = ", ".join(Operation)
        raise InputError(f"operation must be one of {known}, not {given['operation']!r:.40}") from (
            error
        )
    upload, part = said["upload"], said["part"]
    return UrlRequest(
        operation,
        fields.text(said["key"], "key"),
        None if upload is None else fields.text(upload, "upload"),
        None if part is None else fields.whole(part, "part"),
    )


def _sound(upload: str) -> bool:
    return 0 < len(upload) <= PRESIGN_UPLOAD_ID_MAX_CHARS and _plain(upload)


def _plain(text: str) -> bool:
    return text.isascii() and text.isprintable()
