"""What a collection asks of its driver; each command's docstring says what it is answered with.

A driver that can't do one raises a DreamerError into the generator: the collection ends, and what
was not removed stays.
"""

from __future__ import annotations

from dataclasses import dataclass

from dreamer.protocol.ids import Digest


@dataclass(frozen=True)
class StoredKey:
    """A key at the origin; ``modified_at`` in epoch seconds, by the store's clock."""

    key: str
    size_bytes: int
    modified_at: float


@dataclass(frozen=True)
class OpenUpload:
    """An upload in parts that was begun at ``begun_at`` and neither completed nor aborted."""

    key: str
    upload_id: str
    begun_at: float


@dataclass(frozen=True)
class ReadNames:
    """Read the registry: a ``RoomNames``, or None where there is none."""


@dataclass(frozen=True)
class ReadKey:
    """Read a small key: its bytes and ETag, or None when it is not there."""

    key: str


@dataclass(frozen=True)
class ReadManifest:
    """Read a model's manifest, whose hash is ``digest``: bytes, verified; None: it isn't there."""

    digest: Digest


@dataclass(frozen=True)
class ListKeys:
    """List what begins with ``prefix``: the next tuple of StoredKey; an empty one ends it."""

    prefix: str


@dataclass(frozen=True)
class ListUploads:
    """List uploads in parts whose keys begin with ``prefix``: a tuple of OpenUpload."""

    prefix: str


@dataclass(frozen=True)
class WriteKey:
    """Write a small key that has ``etag`` (None: is not there): its new ETag, None: it has not.

    A store that knows no preconditions may write all the same.
    """

    key: str
    data: bytes
    etag: str | None


@dataclass(frozen=True)
class DeleteKeys:
    """Remove keys; no try may begin after ``until`` by the clock. Answered with a ``Deleted``."""

    keys: tuple[str, ...]
    until: float


@dataclass(frozen=True)
class Deleted:
    """Keys that were removed, and keys that could not be; for the others there was no time."""

    removed: frozenset[str]
    failed: frozenset[str]


@dataclass(frozen=True)
class AbortUpload:
    """End an upload in parts; answered with whether that was done."""

    upload: OpenUpload


@dataclass(frozen=True)
class ReadClock:
    """Tell the time, in seconds of a clock that only goes forward."""


@dataclass(frozen=True)
class Pause:
    """Wait so many seconds."""

    seconds: float


Command = (
    ReadNames
    | ReadKey
    | ReadManifest
    | ListKeys
    | ListUploads
    | WriteKey
    | DeleteKeys
    | AbortUpload
    | ReadClock
    | Pause
)
