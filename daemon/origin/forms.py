"""In which form the origin has a file: as it is, or as zstd with a seek table; asked once.

Nothing is recorded of that anywhere but in the bucket, whose keys tell it: nodes and origins that
know only plain files go on as before.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing

from dreamer.daemon.origin.faults import OriginMissingError
from dreamer.daemon.origin.port import BucketPort
from dreamer.daemon.origin.retry import Retry
from dreamer.protocol.content.manifest import FileEntry
from dreamer.protocol.content.seek_table import SeekTable, parse_table, table_bytes
from dreamer.protocol.errors import RemoteProtocolError
from dreamer.protocol.ids import Digest
from dreamer.protocol.origin import OriginAddress
from dreamer.protocol.origin_limits import ORIGIN_FORMS_KEPT

Bucket = Callable[[], BucketPort]


class Forms:
    """The seek tables of one origin's files; thread-safe. Methods raise OriginError."""

    def __init__(self, bucket: Bucket, address: OriginAddress, retry: Retry) -> None:
        self._bucket = bucket
        self._address = address
        self._retry = retry
        self._lock = threading.Lock()
        # None: there is no such form.
        self._tables: dict[Digest, SeekTable | None] = {}

    def known(self, digest: Digest) -> bool | None:
        """Return whether a file is kept as zstd; None if that has not been asked yet."""
        with self._lock:
            found = self._tables.get(digest, digest)
        return None if found is digest else found is not None

    def forget(self, digest: Digest) -> None:
        """Ask again next time: the bucket no longer has what it had."""
        with self._lock:
            self._tables.pop(digest, None)

    def note_plain(self, digest: Digest) -> None:
        """Remember that a file is there as it is."""
        self._keep(digest, None)

    def encoded_bytes(self, entry: FileEntry, stop: threading.Event) -> int | None:
        """Return the size of a file as zstd; None if the bucket does not have it so, and whole."""
        try:
            # Of a bucket whose content comes and goes, what was seen earlier is no promise.
            self.forget(entry.digest)
            return self.table(entry, stop).frames_bytes + table_bytes(entry.size_bytes)
        except OriginMissingError:
            return None

    def table(
        self,
        entry: FileEntry,
        stop: threading.Event,
        arrived: Callable[[int], None] = lambda size_bytes: None,
    ) -> SeekTable:
        """Return the seek table of a file; ``arrived`` is told the bytes that it took.

        Raises:
            OriginMissingError: it is not kept as zstd, or what is there does not fit the file.
            StoppedError: ``stop`` was set.
        """
        with self._lock:
            if (table := self._tables.get(entry.digest)) is not None:
                return table
        key = self._address.encoded_key(entry.digest)
        encoded_bytes = self._retry.run(lambda: self._bucket().known_size(key), stop)
        length = table_bytes(entry.size_bytes)
        try:
            if encoded_bytes < length:
                raise RemoteProtocolError("it is shorter than its seek table: push it again")
            data = self._retry.run(lambda: self._tail(key, encoded_bytes, length), stop)
            arrived(length)
            table = parse_table(data, entry.size_bytes, encoded_bytes)
        except RemoteProtocolError as error:
            # Of no more use than nothing: the file itself may be there.
            raise OriginMissingError(f"{key} at {self._address} can't be used: {error}") from error
        self._keep(entry.digest, table)
        return table

    def _tail(self, key: str, encoded_bytes: int, length: int) -> bytes:
        with closing(self._bucket().get(key, encoded_bytes - length, length)) as pieces:
            return b"".join(pieces)

    def _keep(self, digest: Digest, table: SeekTable | None) -> None:
        with self._lock:
            self._tables[digest] = table
            while len(self._tables) > ORIGIN_FORMS_KEPT:
                del self._tables[next(iter(self._tables))]
