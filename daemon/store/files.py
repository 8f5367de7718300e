"""Whole files, verified once and trusted while their size and time of change stay the same.

A file that turns out damaged goes to quarantine and counts as missing; when it is fetched again,
its good blocks need not be.
"""

from __future__ import annotations

import logging
import os
import stat
import threading
from contextlib import suppress
from pathlib import Path

from dreamer.daemon.state import Stamp, State
from dreamer.daemon.store import beneath, fresh
from dreamer.daemon.store.hashing import OnBytes, hash_file
from dreamer.daemon.store.places import Places
from dreamer.protocol.content.manifest import FileEntry
from dreamer.protocol.ids import Digest

_log = logging.getLogger(__name__)

READ_ONLY = 0o444


def stamp_of(status: os.stat_result) -> Stamp:
    """Return what is remembered of a verified file."""
    return Stamp(status.st_size, status.st_mtime_ns)


class StoredFiles:
    """The files of a store, by their hashes."""

    def __init__(self, places: Places, state: State) -> None:
        self._places = places
        self._state = state

    def path(self, digest: Digest) -> Path:
        """Return where a file is, or would be."""
        return self._places.files / digest.hex()

    def status(self, digest: Digest) -> os.stat_result | None:
        """Return the status of a stored file, None if it is not there."""
        try:
            return self.path(digest).lstat()
        except FileNotFoundError:
            return None

    def look(self) -> None:
        """Notice what other hosts have put here or removed just now."""
        fresh.look(self._places.files)

    def trusted(self, entry: FileEntry) -> bool:
        """Say whether a file is there as it was when last verified; reads none of it."""
        # Asked for every block that is served, so it must not read the file.
        status = self.status(entry.digest)
        return (
            status is not None
            and status.st_size == entry.size_bytes
            and stamp_of(status) == self._state.stamp(entry.digest)
        )

    def stored(self, entry: FileEntry, stop: threading.Event) -> bool:
        """Say whether a file is there and good; re-hash it if it may have changed.

        Raises:
            StoppedError: ``stop`` was set.
            OSError: the disk said no.
        """
        if self.trusted(entry):
            return True
        status = self.status(entry.digest)
        if status is None:
            return False
        if not stat.S_ISREG(status.st_mode):
            self._quarantine(entry, "is no regular file")
            return False
        # A file is judged by its hash alone: the size is a manifest's word, and may be a lie.
        good = stamp_of(status) == self._state.stamp(entry.digest) or self.verify(entry, stop)
        return good and status.st_size == entry.size_bytes

    def verify(
        self, entry: FileEntry, stop: threading.Event, on_bytes: OnBytes = lambda count: None
    ) -> bool:
        """Hash a stored file anew, whatever is remembered of it; a damaged one goes to quarantine.

        Raises:
            StoppedError: ``stop`` was set.
            OSError: the disk said no, or the file is not a regular one.
        """
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK
        try:
            opened = os.open(self.path(entry.digest), flags)
        except FileNotFoundError:
            # Another daemon of this store removed it at this moment.
            return False
        with beneath.opened(opened) as fd:
            # The stamp from before: a change while hashing must show next time.
            stamp = stamp_of(os.fstat(fd))
            digest = hash_file(fd, stop, on_bytes)
        if digest != entry.digest:
            self._quarantine(entry, "has other bytes than its hash names")
            return False
        self._state.put_stamp(entry.digest, stamp)
        return True

    def _quarantine(self, entry: FileEntry, why: str) -> None:
        _log.error(
            "stored file %s (%s) %s: moved to quarantine; pull its model again to repair it",
            entry.digest.hex(),
            entry.path,
            why,
        )
        # In this order a crash in between costs a re-hash, not a false trust.
        self._state.drop_stamp(entry.digest)
        with suppress(FileNotFoundError):
            self.path(entry.digest).replace(self._places.quarantine / entry.digest.hex())

    def adopt(self, fd: int, staged: Path, digest: Digest) -> None:
        """Make a verified file visible: flushed, read-only, renamed into place.

        ``fd`` is open on ``staged``. Raises OSError as the disk does.
        """
        # Its users get hard links: a write through one would damage them all.
        os.fchmod(fd, READ_ONLY)
        # A stamp that outlives a power cut must not vouch for bytes that did not.
        os.fsync(fd)
        stamp = stamp_of(os.fstat(fd))
        staged.rename(self.path(digest))
        self._state.put_stamp(digest, stamp)
        (self._places.quarantine / digest.hex()).unlink(missing_ok=True)

    def salvage(self, digest: Digest) -> Path | None:
        """Return a file that may hold good blocks of ``digest``: stored, else quarantined."""
        for path in (self.path(digest), self._places.quarantine / digest.hex()):
            if path.is_file() and not path.is_symlink():
                return path
        return None

    def remove(self, digest: Digest) -> int:
        """Remove a file; return the bytes that this gave back to the disk."""
        freed = 0
        for path in (self.path(digest), self._places.quarantine / digest.hex()):
            status = _lstat(path)
            if status is not None:
                path.unlink(missing_ok=True)
                # While a directory of the user's still links to it, nothing is given back.
                freed += status.st_size if status.st_nlink == 1 else 0
        self._state.drop_stamp(digest)
        return freed


def _lstat(path: Path) -> os.stat_result | None:
    try:
        return path.lstat()
    except FileNotFoundError:
        return None
