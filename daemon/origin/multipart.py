"""One large object on its way, in parts: begun, or taken up where an earlier attempt was cut off.

What the store has is asked of the store (ListParts), not remembered: a part that it holds with our
size and MD5 is not sent again, whatever ended the process that sent it. Only the id of the upload
is kept here, and where it is lost, the store lists that, too.
"""

from __future__ import annotations

import hashlib
import re
import threading
import zlib
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

from dreamer.daemon.origin.checks import Checks
from dreamer.daemon.origin.faults import (
    OriginConflictError,
    OriginDamagedError,
    OriginError,
    OriginMissingError,
    OriginRefusedError,
    OriginUnsupportedError,
)
from dreamer.daemon.origin.lease import PushLease
from dreamer.daemon.origin.listing import ListedPart
from dreamer.daemon.origin.port import BucketPort
from dreamer.daemon.origin.retry import Retry
from dreamer.daemon.origin.tally import Tally
from dreamer.daemon.store.copying import fill
from dreamer.protocol.checksum import Algorithm, crc32_checksum, crc32_of_all
from dreamer.protocol.errors import LocalError
from dreamer.protocol.limits import MIB, ORIGIN_MAX_PARTS, ORIGIN_PART_BYTES
from dreamer.protocol.origin_limits import UPLOAD_BEGINNINGS_MAX

T = TypeVar("T")
_MD5_HEX = re.compile(r"[0-9a-f]{32}")


class BegunUploads(Protocol):
    """Where the ids of multipart uploads are kept while they last, by key. Thread-safe."""

    def get(self, key: str) -> str | None:
        """Return the id of a key's upload, if one was begun."""
        ...

    def put(self, key: str, upload: str) -> None:
        """Keep the id of an upload that has been begun."""
        ...

    def drop(self, key: str) -> None:
        """Forget it: it is complete, or gone."""
        ...


class RememberedUploads:
    """Ids that last as long as the process."""

    def __init__(self) -> None:
        self._ids: dict[str, str] = {}
        self.get = self._ids.get
        self.put = self._ids.__setitem__

    def drop(self, key: str) -> None:
        """Forget an upload."""
        self._ids.pop(key, None)


@dataclass(frozen=True)
class Part:
    """``length`` bytes at ``offset`` of a file, numbered from 1."""

    number: int
    offset: int
    length: int


@dataclass(frozen=True)
class _There:
    """A part that the store has: its ETag, our MD5 (hex) and CRC-32 of it."""

    etag: str
    md5: str
    crc32: int
    length: int


@dataclass(frozen=True)
class Sending:
    """What all sends of one upload share."""

    bucket: BucketPort
    retry: Retry
    checks: Checks
    begun: BegunUploads
    tally: Tally
    stop: threading.Event
    lease: PushLease | None = None

    def call(self, action: Callable[[], T]) -> T:
        """Return what ``action`` returns, trying again while the origin is busy."""
        if self.lease is not None:
            self.lease.renew()
        result = self.retry.run(action, self.stop)
        self.tally.heard()
        return result


def part_bytes(size_bytes: int) -> int:
    """Return the part size for a file, so that S3's limit of 10,000 parts holds."""
    # Grows by whole MiB only for files past 80 GB.
    least = -(-size_bytes // ORIGIN_MAX_PARTS)
    return max(ORIGIN_PART_BYTES, -(-least // MIB) * MIB)


def parts_of(size_bytes: int) -> list[Part]:
    """Return the parts that an object is sent in; the same ones every time (R2: all but the last
    must be equally large).
    """
    step = part_bytes(size_bytes)
    return [
        Part(number, offset, min(step, size_bytes - offset))
        for number, offset in enumerate(range(0, size_bytes, step), 1)
    ]


class Multipart:
    """One object of ``size_bytes`` from ``path``; ``run`` once."""

    def __init__(
        self, sending: Sending, pool: ThreadPoolExecutor, key: str, path: Path, size_bytes: int
    ) -> None:
        self._sending = sending
        self._bucket = sending.bucket
        self._begun = sending.begun
        self._pool = pool
        self._key = key
        self._path = path
        self._size_bytes = size_bytes
        self._parts = parts_of(size_bytes)

    def run(self) -> None:
        """Send what the store lacks of the object, and have it put together.

        What was sent stays when this fails, for the next attempt to go on with.

        Raises:
            OriginError: the store failed, or refused.
            StoppedError: it was stopped.
        """
        last: OriginError | None = None
        conflicts = 0
        for _ in range(UPLOAD_BEGINNINGS_MAX):
            by = self._sending.checks.by
            upload, there = self._taken_up() or (self._begin(by), {})
            try:
                self._attempt(upload, there, by)
            except OriginMissingError as error:
                # Ended by somebody, or by a try of ours whose answer was lost: then the key is
                # there.
                self._begun.drop(self._key)
                if self._sending.call(lambda: self._bucket.size(self._key)) == self._size_bytes:
                    return
                last = error
            except OriginUnsupportedError as error:
                # Of what kind its checksums are, an upload is told only once. And rclone takes no
                # part a second time: what is wrong in an upload can't be put right.
                self._abandon(upload)
                self._sending.checks.refused(by)
                last = error
            except OriginConflictError as error:
                # "Start that upload again": with what it has, if it still has it.
                conflicts += 1
                if conflicts > 1:
                    self._abandon(upload)
                last = error
            except OriginDamagedError as error:
                self._begun.drop(self._key)
                last = error
            else:
                self._begun.drop(self._key)
                return
        assert last is not None, "it was tried"
        raise last

    def _begin(self, by: Algorithm | None) -> str:
        upload = self._sending.call(lambda: self._bucket.begin(self._key, by))
        # At once: from here on, somebody pays for what it holds.
        self._begun.put(self._key, upload)
        return upload

    def _abandon(self, upload: str) -> None:
        self._begun.drop(self._key)
        # Parts of an upload that never ends are paid for; failing to say so is no news.
        with suppress(OriginError):
            self._bucket.abort(self._key, upload)

    def _taken_up(self) -> tuple[str, dict[int, ListedPart]] | None:
        """Return the upload of an earlier attempt that has most, and its parts by number."""
        remembered = self._begun.get(self._key)
        found: list[tuple[int, str, dict[int, ListedPart]]] = []
        for upload in [remembered] if remembered else self._listed():
            with suppress(OriginMissingError, OriginUnsupportedError):
                parts = self._sending.call(lambda: self._bucket.parts(self._key, upload))  # noqa: B023
                size = sum(part.size_bytes for part in parts)
                found.append((size, upload, {part.number: part for part in parts}))
        if not found:
            self._begun.drop(self._key)
            return None
        _, upload, parts_by_number = max(found, key=lambda each: each[0])
        self._begun.put(self._key, upload)
        return upload, parts_by_number

    def _listed(self) -> Sequence[str]:
        # A policy may allow uploads and not their listing, and some stores have none.
        with suppress(OriginMissingError, OriginRefusedError, OriginUnsupportedError):
            return self._sending.call(lambda: self._bucket.uploads(self._key))
        return ()

    def _attempt(self, upload: str, there: dict[int, ListedPart], by: Algorithm | None) -> None:
        def bring(part: Part) -> _There:
            # Read only now: a few parts are in memory at a time, not the file.
            data = read_part(self._path, part.offset, part.length)
            md5 = hashlib.md5(data, usedforsecurity=False).hexdigest()
            known = there.get(part.number)
            if known is not None and known.holds(part.length, md5):
                etag = known.etag
            else:
                etag = self._sending.checks.sent(
                    lambda: self._sending.call(
                        lambda: self._bucket.put_part(self._key, upload, part.number, data, by)
                    ),
                    md5,
                )
            sent = known is None or etag != known.etag
            self._sending.tally.part(self._key, part.number, part.length, sent=sent)
            return _There(etag, md5, zlib.crc32(data), part.length)

        brought = all_of(self._pool, bring, self._parts)
        self._complete(upload, brought, by)

    def _complete(self, upload: str, brought: list[_There], by: Algorithm | None) -> None:
        whole = None
        if by is Algorithm.CRC32:
            whole = crc32_checksum(crc32_of_all((each.crc32, each.length) for each in brought))
        etags = [each.etag for each in brought]
        etag = self._sending.call(lambda: self._bucket.complete(self._key, upload, etags, whole))
        if not _fits(etag, brought):
            raise OriginDamagedError(
                f"{self._key}: the store put together something else ({etag}); it is sent again"
            )


def _fits(etag: str, brought: list[_There]) -> bool:
    """Say whether a store's ETag of the whole is that of our parts, or no such thing at all.

    AWS, R2, MinIO, Ceph and rclone make it of the MD5s of the parts: the MD5 of them in a row, then
    ``-`` and their number. Where the ETags of parts are no MD5s, that of the whole is none, either.
    """
    if any(each.etag.strip('"').lower() != each.md5 for each in brought):
        return True
    said, _, count = etag.strip('"').lower().partition("-")
    if not _MD5_HEX.fullmatch(said) or count != str(len(brought)):
        return True
    digests = b"".join(bytes.fromhex(each.md5) for each in brought)
    return said == hashlib.md5(digests, usedforsecurity=False).hexdigest()


S = TypeVar("S")


def all_of(pool: ThreadPoolExecutor, action: Callable[[S], T], items: Sequence[S]) -> list[T]:
    """Do ``action`` for all items at once; on failure, only what has begun is finished."""
    futures: list[Future[T]] = [pool.submit(action, item) for item in items]
    try:
        return [future.result() for future in futures]
    finally:
        # What follows must not overtake parts that are still being sent.
        for future in futures:
            future.cancel()
        wait(futures)


def read_part(path: Path, offset: int, length: int) -> bytes:
    """Return bytes of a file of the store; raises LocalError if it was cut short."""
    data = bytearray(length)
    with path.open("rb") as file:
        count = fill(file.fileno(), memoryview(data), offset)
    if count != length:
        raise LocalError(f"{path} was cut short while it was uploaded: pull the model again")
    return bytes(data)
