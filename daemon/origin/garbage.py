"""Carries out a garbage collection (``protocol.garbage.collect``) with a node's own credentials."""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

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
from dreamer.protocol.garbage.commands import (
    AbortUpload,
    Command,
    Deleted,
    DeleteKeys,
    ListKeys,
    ListUploads,
    OpenUpload,
    Pause,
    ReadClock,
    ReadKey,
    ReadManifest,
    ReadNames,
    StoredKey,
    WriteKey,
)
from dreamer.protocol.garbage.driving import drive
from dreamer.protocol.garbage.names import RoomNames
from dreamer.protocol.garbage.report import Report
from dreamer.protocol.ids import Digest
from dreamer.protocol.limits import ORIGIN_PARALLEL_REQUESTS
from dreamer.protocol.origin_limits import ORIGIN_LISTED_PER_ANSWER

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
        self._origin = origin
        self._bucket = origin.bucket
        self._read_registry = read_registry
        self._retry = Retry()
        self._stop = stop
        self._listings: dict[str, Iterator[StoredKey]] = {}

    def run(self, collection: Collection) -> Report:
        """Carry out a collection."""
        return drive(collection.run(), self._answer)

    def _answer(self, command: Command) -> Any:
        match command:
            case ReadNames():
                return self._read_registry()
            case ReadKey():
                return self._tried(lambda: self._read_key(command.key))
            case ReadManifest():
                return self._manifest(command.digest)
            case ListKeys():
                return self._page(command.prefix)
            case ListUploads():
                return self._tried(lambda: self._uploads(command.prefix))
            case ReadClock():
                return time.monotonic()
            case Pause():
                return self._stop.wait(command.seconds)
            case _:
                return self._change(command)

    def _change(self, command: WriteKey | DeleteKeys | AbortUpload) -> Any:
        match command:
            case WriteKey():
                return self._write(command)
            case DeleteKeys():
                return self._delete(command)
            case AbortUpload():
                return self._abort(command.upload)

    def _tried(self, action: Callable[[], T]) -> T:
        return self._retry.run(action, self._stop)

    def _read_key(self, key: str) -> tuple[bytes, str] | None:
        try:
            return self._bucket.read_whole(key, None)
        except OriginNoBucketError:
            raise
        except OriginMissingError:
            return None

    def _manifest(self, digest: Digest) -> bytes | None:
        try:
            return self._origin.fetch_object(digest, self._stop)
        except OriginNoBucketError:
            raise
        except OriginMissingError:
            return None

    def _page(self, prefix: str) -> tuple[StoredKey, ...]:
        listing = self._listings.get(prefix)
        if listing is None:
            listing = self._listings[prefix] = self._listed(prefix)
        page = tuple(itertools.islice(listing, ORIGIN_LISTED_PER_ANSWER))
        if not page:
            # Listed again, it is listed anew.
            del self._listings[prefix]
        return page

    def _listed(self, prefix: str) -> Iterator[StoredKey]:
        for one in self._bucket.listed(prefix):
            stopping.check(self._stop)
            yield StoredKey(one.key, one.size_bytes, one.modified_at)

    def _uploads(self, prefix: str) -> tuple[OpenUpload, ...]:
        try:
            found = list(self._bucket.open_uploads(prefix))
        except OriginUnsupportedError:
            return ()
        return tuple(OpenUpload(one.key, one.upload, one.began_at) for one in found)

    def _write(self, command: WriteKey) -> str | None:
        document = OriginDocument(lambda: self._bucket, command.key, self._retry)
        try:
            # Not to be stopped: a mark that stays makes pushes wait.
            return document.write(command.data, command.etag, threading.Event())
        except OriginConflictError:
            return None

    def _delete(self, command: DeleteKeys) -> Deleted:
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

    def _abort(self, upload: OpenUpload) -> bool:
        try:
            self._bucket.abort(upload.key, upload.upload_id)
        except OriginMissingError:
            return True
        except OriginError as error:
            log.warning("an abandoned upload that can't be ended: %s", error)
            return False
        return True
