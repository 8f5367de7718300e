"""Where one process puts work under way, and the removal of what dead processes left there.

Several daemons may share a store, and one that starts must not take away another's work: each has a
directory of its own in ``staging/``, and a lock beside it that ends with its process.
"""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

from dreamer.daemon.store import fresh, locks
from dreamer.daemon.store.locks import FileLock
from dreamer.daemon.store.mounts import mount_of
from dreamer.daemon.store.places import STAGING_LOCK_SUFFIX, Places
from dreamer.protocol.cache_limits import STORE_STAGING_SILENCE_S
from dreamer.protocol.errors import LocalError


class Staging:
    """This process's directory in ``staging/``. Methods raise OSError as the disk does."""

    def __init__(self, places: Places) -> None:
        self._places = places
        # The name is drawn anew for each process, so nobody else can want it.
        lock = FileLock.take(_lock_of(places.own_staging), exclusive=True)
        if lock is None:
            raise LocalError(f"{places.own_staging} is in use: start again")
        self._lock = lock
        places.own_staging.mkdir()

    @property
    def lock(self) -> FileLock:
        """Held as long as this process uses the store."""
        return self._lock

    def close(self) -> None:
        """Leave nothing behind."""
        shutil.rmtree(self._places.own_staging, ignore_errors=True)
        self._lock.discard()


def abandoned(places: Places) -> Iterator[Path]:
    """Yield what processes that are gone left in staging."""
    is_shared = mount_of(places.root).is_shared
    for left in sorted(places.staging.iterdir()):
        if left.suffix == STAGING_LOCK_SUFFIX:
            continue
        # Where its lock may not reach us, only long silence tells that a host is gone.
        if not (is_shared and _wrote_lately(places, _lock_of(left))) and not _is_live(left):
            yield left


def _wrote_lately(places: Places, lock_file: Path) -> bool:
    """Return whether another host has shown lately, by the volume's own clock, that it lives."""
    said = locks.note(lock_file).split()
    if len(said) < 2 or said[1] == socket.gethostname().encode():
        return False
    try:
        now = fresh.lstat(_lock_of(places.own_staging)).st_mtime
        return now - fresh.lstat(lock_file).st_mtime < STORE_STAGING_SILENCE_S
    except FileNotFoundError:
        return False


def sweep(places: Places) -> None:
    """Remove what processes that are gone left."""
    for left in abandoned(places):
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)
    for lock_file in places.staging.glob(f"*{STAGING_LOCK_SUFFIX}"):
        # One that starts at this moment sees that its file is gone, and makes it anew.
        if not lock_file.with_suffix("").exists() and (
            lock := FileLock.take(lock_file, exclusive=True)
        ):
            lock.discard()


def _is_live(left: Path) -> bool:
    lock = FileLock.take(_lock_of(left), exclusive=True)
    if lock is None:
        return True
    lock.discard()
    return False


def _lock_of(place: Path) -> Path:
    return place.with_name(place.name + STAGING_LOCK_SUFFIX)
