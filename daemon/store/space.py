"""Room on the disk: foreseen where it can be, explained where it runs out in the midst."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dreamer.protocol.errors import DiskError
from dreamer.protocol.limits import STORE_RESERVE_BYTES

# The unit of st_blocks, whatever the file system's own.
_SECTOR_BYTES = 512
MAKE_ROOM = "make room"
_FULL = (errno.ENOSPC, errno.EDQUOT)


def free_bytes(place: Path) -> int:
    """Return the bytes that an ordinary user can still write where ``place`` is or will be."""
    status = _disk_of(place)
    return status.f_bavail * status.f_frsize


def total_bytes(place: Path) -> int:
    """Return the size of the disk where ``place`` is or will be."""
    status = _disk_of(place)
    return status.f_blocks * status.f_frsize


def _disk_of(place: Path) -> os.statvfs_result:
    # A place that is yet to be made will be on its parent's disk.
    while not place.exists():
        place = place.parent
    return os.statvfs(place)


def fits(needed_bytes: int, place: Path) -> bool:
    """Say whether ``needed_bytes`` can be written and some room is left."""
    # The reserve keeps the database and the logs of a full node working.
    return needed_bytes == 0 or needed_bytes + STORE_RESERVE_BYTES <= free_bytes(place)


def allocated_bytes(status: os.stat_result) -> int:
    """Return the room that a file takes on the disk, less than its size if it has holes."""
    return status.st_blocks * _SECTOR_BYTES


def readable(size_bytes: int) -> str:
    """Return a size as people read it, in powers of 1000."""
    size = float(size_bytes)
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1000
    return f"{size:.3g} TB"


@contextmanager
def explained(place: Path) -> Iterator[None]:
    """Turn the system's refusal to write under ``place`` into an error that says what to do.

    Raises:
        DiskError: the disk is full, read-only, failing, or not ours to write.
    """
    try:
        yield
    except OSError as error:
        # A quota that is used up is a full disk to its user.
        if error.errno in _FULL:
            raise DiskError(
                f"the disk of {place} is full ({readable(free_bytes(place))} free)",
                "free some space and run the same command again",
                MAKE_ROOM,
            ) from error
        raise DiskError(f"can't use {error.filename or place}: {error.strerror}") from error
