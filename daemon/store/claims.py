"""Who downloads which model: one download at a time, in this process and in all others.

Two downloads of one model would write into the same files. Within this process a table tells, and
holds the downloads themselves; between processes a lock does, which says who holds it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from dreamer.daemon.store import locks
from dreamer.daemon.store.download import Download
from dreamer.daemon.store.locks import FileLock, HeldElsewhereError
from dreamer.daemon.store.places import Places
from dreamer.protocol.errors import LocalError
from dreamer.protocol.ids import ManifestId, short


class Claims:
    """The models that are being downloaded or removed."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._lock = threading.Lock()
        self._downloads: dict[ManifestId, Download | None] = {}
        self._held: dict[ManifestId, FileLock] = {}

    def claim(self, manifest_id: ManifestId) -> None:
        """Take a model, for its download or removal.

        Raises:
            LocalError: it is taken in this process.
            HeldElsewhereError: in another one.
            OSError: the disk said no.
        """
        with self._lock:
            if manifest_id in self._downloads:
                raise LocalError(
                    f"{short(manifest_id)} is being downloaded or removed already: wait for that"
                )
            path = self._places.pull_lock(manifest_id)
            lock = FileLock.take(path, exclusive=True)
            if lock is None:
                raise HeldElsewhereError(
                    f"{short(manifest_id)} is being downloaded or removed", locks.holder(path)
                )
            self._downloads[manifest_id] = None
            self._held[manifest_id] = lock

    def release(self, manifest_id: ManifestId) -> None:
        """Let go of a model."""
        with self._lock:
            self._downloads.pop(manifest_id, None)
            lock = self._held.pop(manifest_id, None)
            if lock is not None:
                # A file for each model that was ever here would only be in the way.
                lock.discard()

    def begun(self, manifest_id: ManifestId, download: Download) -> None:
        """Say what a claim was for."""
        with self._lock:
            self._downloads[manifest_id] = download

    def download(self, manifest_id: ManifestId) -> Download | None:
        """Return the download of a model that is under way here."""
        with self._lock:
            return self._downloads.get(manifest_id)

    def is_claimed(self, manifest_id: ManifestId) -> bool:
        """Return whether this process downloads or removes a model."""
        with self._lock:
            return manifest_id in self._downloads

    def elsewhere(self, manifest_id: ManifestId) -> str:
        """Return which other process downloads a model, in words; empty if none does."""
        path = self._places.pull_lock(manifest_id)
        with self._lock:
            if manifest_id in self._downloads or not locks.is_held(path):
                return ""
        return locks.holder(path)

    @contextmanager
    def tried(self, manifest_id: ManifestId) -> Iterator[bool]:
        """Claim a model for a moment, if nobody has it; yields whether."""
        try:
            self.claim(manifest_id)
        except LocalError:
            yield False
            return
        try:
            yield True
        finally:
            self.release(manifest_id)
