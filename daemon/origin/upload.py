"""Sending a model to the origin: only what isn't there, in parallel, the manifest last.

Whoever finds the manifest in the bucket finds the files too.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from dreamer.daemon.origin.faults import OriginError, OriginMissingError
from dreamer.daemon.origin.port import BucketPort
from dreamer.daemon.origin.retry import Retry
from dreamer.daemon.store.copying import fill
from dreamer.daemon.store.ingest import OnProgress
from dreamer.daemon.store.store import Store
from dreamer.protocol.content.manifest import FileEntry, Manifest
from dreamer.protocol.errors import LocalError
from dreamer.protocol.ids import Digest, ManifestId, short
from dreamer.protocol.limits import (
    MIB,
    ORIGIN_MAX_PARTS,
    ORIGIN_MULTIPART_OVER_BYTES,
    ORIGIN_PARALLEL_REQUESTS,
    ORIGIN_PART_BYTES,
)
from dreamer.protocol.origin import OriginAddress

S = TypeVar("S")
T = TypeVar("T")


@dataclass(frozen=True)
class UploadReport:
    """Bytes sent by this upload, and bytes that were at the origin already."""

    sent_bytes: int
    skipped_bytes: int


@dataclass(frozen=True)
class _Part:
    number: int
    offset: int
    length: int


def part_bytes(size_bytes: int) -> int:
    """Return the part size for a file, so that S3's limit of 10,000 parts holds."""
    # Grows by whole MiB only for files past 80 GB.
    least = -(-size_bytes // ORIGIN_MAX_PARTS)
    return max(ORIGIN_PART_BYTES, -(-least // MIB) * MIB)


def _parts(size_bytes: int) -> list[_Part]:
    step = part_bytes(size_bytes)
    offsets = range(0, size_bytes, step)
    return [
        _Part(number, offset, min(step, size_bytes - offset))
        for number, offset in enumerate(offsets, 1)
    ]


class Upload:
    """One model on its way to the origin; ``run`` once. Raises OriginError, StoppedError."""

    def __init__(
        self,
        bucket: BucketPort,
        address: OriginAddress,
        store: Store,
        retry: Retry,
        progress: OnProgress,
        stop: threading.Event,
    ) -> None:
        self._bucket = bucket
        self._address = address
        self._store = store
        self._retry = retry
        self._progress = progress
        self._stop = stop
        self._lock = threading.Lock()
        self._sent = 0
        self._skipped = 0
        self._total = 0

    def run(
        self, manifest_id: ManifestId, manifest: Manifest, metadata: Digest | None = None
    ) -> UploadReport:
        """Send what the origin lacks of the model.

        Raises:
            LocalError: the store does not hold the whole model.
        """
        # What is damaged here must not spread.
        if not self._store.complete(manifest, self._stop):
            raise LocalError(f"{short(manifest_id)} is not whole here: pull it again first")
        # The manifest very last.
        named = [metadata, manifest.outboard, Digest(manifest_id)]
        objects = {digest: self._object(digest) for digest in named if digest is not None}
        files = list({entry.digest: entry for entry in manifest.files}.values())
        self._total = sum(map(len, objects.values())) + sum(entry.size_bytes for entry in files)
        with ThreadPoolExecutor(ORIGIN_PARALLEL_REQUESTS, "dreamer-upload") as pool:
            lacking = [entry for entry in self._all(pool, self._lacks, files) if entry]
            large = [item for item in lacking if item.size_bytes > ORIGIN_MULTIPART_OVER_BYTES]
            self._all(pool, self._send_small, [item for item in lacking if item not in large])
            # One after the other, for the parts of one fill the pool.
            for entry in large:
                self._send_large(pool, entry)
        # After everything that they name.
        for digest, data in objects.items():
            self._send_object(digest, data)
        return UploadReport(self._sent, self._skipped)

    def _all(
        self, pool: ThreadPoolExecutor, action: Callable[[S], T], items: Iterable[S]
    ) -> list[T]:
        """Do ``action`` for all items at once; on failure, only what has begun is finished."""
        futures = [pool.submit(action, item) for item in items]
        try:
            return [future.result() for future in futures]
        finally:
            # An abort must not overtake parts that are still being sent.
            for future in futures:
                future.cancel()
            wait(futures)

    def _call(self, action: Callable[[], T]) -> T:
        return self._retry.run(action, self._stop)

    def _count(self, sent: int = 0, skipped: int = 0) -> None:
        with self._lock:
            self._sent += sent
            self._skipped += skipped
            self._progress(self._sent + self._skipped, self._total)

    def _object(self, digest: Digest) -> bytes:
        data = self._store.get_object(digest)
        if data is None:
            raise LocalError(f"object {short(digest)} is missing from the store: push again")
        return data

    def _has(self, key: str, size_bytes: int) -> bool:
        if self._call(lambda: self._bucket.size(key)) != size_bytes:
            return False
        self._count(skipped=size_bytes)
        return True

    def _lacks(self, entry: FileEntry) -> FileEntry | None:
        key = self._address.file_key(entry.digest)
        return None if self._has(key, entry.size_bytes) else entry

    def _send_object(self, digest: Digest, data: bytes) -> None:
        key = self._address.object_key(digest)
        if not self._has(key, len(data)):
            self._call(lambda: self._bucket.put(key, data))
            self._count(sent=len(data))

    def _send_small(self, entry: FileEntry) -> None:
        key = self._address.file_key(entry.digest)
        data = _read(self._store.file(entry.digest), 0, entry.size_bytes)
        self._call(lambda: self._bucket.put(key, data))
        self._count(sent=len(data))

    def _send_large(self, pool: ThreadPoolExecutor, entry: FileEntry) -> None:
        key = self._address.file_key(entry.digest)
        path = self._store.file(entry.digest)
        upload = self._call(lambda: self._bucket.begin(key))

        def send(part: _Part) -> str:
            # Read only now: a few parts are in memory at a time, not the file.
            data = _read(path, part.offset, part.length)
            etag = self._call(lambda: self._bucket.put_part(key, upload, part.number, data))
            self._count(sent=part.length)
            return etag

        complete = False
        try:
            etags = self._all(pool, send, _parts(entry.size_bytes))
            self._complete(key, upload, etags, entry.size_bytes)
            complete = True
        finally:
            if not complete:
                # Parts of an upload that never ends are paid for; failing to say so is no news.
                with suppress(OriginError):
                    self._bucket.abort(key, upload)

    def _complete(self, key: str, upload: str, etags: list[str], size_bytes: int) -> None:
        try:
            self._call(lambda: self._bucket.complete(key, upload, etags))
        except OriginMissingError:
            # A try whose answer was lost may have done it: then the upload is gone, the key there.
            if self._call(lambda: self._bucket.size(key)) != size_bytes:
                raise


def _read(path: Path, offset: int, length: int) -> bytes:
    data = bytearray(length)
    with path.open("rb") as file:
        count = fill(file.fileno(), memoryview(data), offset)
    if count != length:
        raise LocalError(f"{path} was cut short while it was uploaded: pull the model again")
    return bytes(data)
