"""Carries out a garbage collection (``protocol.garbage.collect``) with a node's own credentials."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from dreamer.daemon.origin.document import OriginDocument
from dreamer.daemon.origin.faults import (
    OriginBusyError,
    OriginConflictError,
    OriginError,
    OriginMissingError,
    OriginNoBucketError,
    OriginUnsupportedError,
)
from dreamer.daemon.origin.origin import Origin
from dreamer.daemon.origin.retry import Retry
from dreamer.daemon.store import stopping
from dreamer.protocol.garbage.collect import Collection
from dreamer.protocol.garbage.commands import Deleted, DeleteKeys, OpenUpload, StoredKey, WriteKey
from dreamer.protocol.garbage.driving import Answers, drive
from dreamer.protocol.garbage.names import RoomNames
from dreamer.protocol.garbage.report import Report
from dreamer.protocol.ids import Digest
from dreamer.protocol.limits import ORIGIN_PARALLEL_REQUESTS

T = TypeVar("T")
log = logging.getLogger(__name__)

ReadRegistry = Callable[[], RoomNames | None]
"""Reads the room's registry where it is kept, now; None where there is none. Blocks."""


class Collector:
    """Collects at one origin; blocks, so use it in a thread.

    Raises:
        OriginError: the origin failed, or this node has no credentials of its own.
        StoppedError: ``stop`` was set; what is not removed yet stays.
    """

    def __init__(self, origin: Origin, read_registry: ReadRegistry, stop: threading.Event) -> None:
        self.answers = Answers(_Hands(origin, read_registry, stop))

    def run(self, collection: Collection) -> Report:
        """Carry out a collection."""
        return drive(collection.run(), self.answers.to)


class _Hands:
    """What ``driving.Hands`` asks for."""

    def __init__(self, origin: Origin, read_registry: ReadRegistry, stop: threading.Event) -> None:
        self._origin = origin
        self._bucket = origin.bucket
        self._read_registry = read_registry
        self._retry = Retry()
        self._stop = stop

    def names(self) -> RoomNames | None:
        return self._read_registry()

    def now(self) -> float:
        return time.monotonic()

    def wait(self, seconds: float) -> None:
        self._stop.wait(seconds)

    def _tried(self, action: Callable[[], T]) -> T:
        return self._retry.run(action, self._stop)

    def read(self, key: str) -> tuple[bytes, str] | None:
        try:
            return self._tried(lambda: self._bucket.read_whole(key, None))
        except OriginNoBucketError:
            raise
        except OriginMissingError:
            return None

    def manifest(self, digest: Digest) -> bytes | None:
        try:
            return self._origin.fetch_object(digest, self._stop)
        except OriginNoBucketError:
            raise
        except OriginMissingError:
            return None

    def listed(self, prefix: str) -> Iterator[StoredKey]:
        for one in self._bucket.listed(prefix):
            stopping.check(self._stop)
            yield StoredKey(one.key, one.size_bytes, one.modified_at)

    def uploads(self, prefix: str) -> tuple[OpenUpload, ...]:
        try:
            found = self._tried(lambda: list(self._bucket.open_uploads(prefix)))
        except OriginUnsupportedError:
            return ()
        return tuple(OpenUpload(one.key, one.upload, one.began_at) for one in found)

    def write(self, command: WriteKey) -> str | None:
        document = OriginDocument(lambda: self._bucket, command.key, self._retry)
        try:
            # Not to be stopped: a mark that stays makes pushes wait.
            return document.write(command.data, command.etag, threading.Event())
        except OriginConflictError:
            return None

    def delete(self, command: DeleteKeys) -> Deleted:
        removed: list[str] = []
        failed: dict[str, OriginError] = {}

        def remove(key: str) -> None:
            if time.monotonic() >= command.until or self._stop.is_set():
                return
            try:
                self._bucket.delete_all([key])
                removed.append(key)
                failed.pop(key, None)
            except OriginError as error:
                failed[key] = error

        with ThreadPoolExecutor(ORIGIN_PARALLEL_REQUESTS, "dreamer-collect") as pool:
            list(pool.map(remove, command.keys))
        # Once more, and alone: a store that was busy may be less so now.
        for key in [key for key, error in failed.items() if isinstance(error, OriginBusyError)]:
            remove(key)
        for error in failed.values():
            log.warning("garbage that can't be removed: %s", error)
        stopping.check(self._stop)
        return Deleted(frozenset(removed), frozenset(failed))

    def abort(self, upload: OpenUpload) -> bool:
        try:
            self._bucket.abort(upload.key, upload.upload_id)
        except OriginMissingError:
            return True
        except OriginError as error:
            log.warning("an abandoned upload that can't be ended: %s", error)
            return False
        return True
