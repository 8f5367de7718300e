"""What is asked of an origin and what it sends, counted on the wire: this is what is paid for.

Failed and broken requests count, too; most stores charge for them. What the kernel had received of
an answer that was given up is not seen here.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, Protocol

from dreamer.protocol.presign import Operation

RequestClass = Literal["gets", "puts", "lists", "free"]
"""What a request is paid as. S3's pricing: HEAD is a GET; POST and COPY are PUTs; removing things
and calling uploads off is free."""

_CLASSES: dict[str, RequestClass] = {
    "Get": "gets",
    "Head": "gets",
    "List": "lists",
    "Delete": "free",
    "Abort": "free",
}


class Meter(Protocol):
    """Who counts; called by the threads that talk to the origin. ``where`` is a key or a path."""

    def requested(self, kind: RequestClass, where: str, up_bytes: int) -> None:
        """One request is sent, with a body of so many bytes."""
        ...

    def received(self, where: str, size_bytes: int) -> None:
        """So many bytes of an answer's body have come."""
        ...


class NoMeter:
    """Counts nothing."""

    def requested(self, kind: RequestClass, where: str, up_bytes: int) -> None:
        """Nobody wants to know."""

    def received(self, where: str, size_bytes: int) -> None:
        """Nobody wants to know."""


def class_of(operation: str) -> RequestClass:
    """Return the class of an S3 operation by its name in the API, such as ``ListParts``."""
    for verb, kind in _CLASSES.items():
        if operation.startswith(verb):
            return kind
    return "puts"


def class_of_url(operation: Operation) -> RequestClass:
    """Return the class of what a presigned URL is for."""
    if operation.name.startswith("LIST"):
        return "lists"
    match operation.method:
        case "GET" | "HEAD":
            return "gets"
        case "DELETE":
            return "free"
    return "puts"


def watch(client: Any, meter: Meter) -> None:
    """Count every request that a boto3 client sends, whatever it is for."""

    # Asked just before the request goes out; the event's name ends with that of the operation.
    def sent(request: Any, event_name: str, **_: object) -> None:
        up_bytes = int(request.headers.get("Content-Length") or 0)
        meter.requested(class_of(event_name.rpartition(".")[2]), str(request.url), up_bytes)

    client.meta.events.register("before-send.s3", sent)


class CountedBody:
    """The body of one of boto3's answers, which tells of what is read of it."""

    def __init__(self, body: Any, received: Callable[[int], None]) -> None:
        self._body = body
        self._received = received

    def read(self, size_bytes: int | None = None) -> bytes:
        """Return the next bytes, as boto3's own does."""
        data: bytes = self._body.read(size_bytes)
        self._received(len(data))
        return data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._body, name)
