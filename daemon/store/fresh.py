"""Looking at a shared volume as it is now, not as this host remembers it.

Hosts that mount a volume over the network remember what they saw there: NFS for 3 to 60 seconds
(``ac*`` of nfs(5)), FUSE mostly for one. A name that was not there stays missing, a file that has
grown keeps its size. Opening a file asks anew; a name that is missing, a size or a list does not,
unless statx(2) is told to (AT_STATX_FORCE_SYNC). A fresh look at a directory is one at the names in
it, too. On a disk of this host's own it costs some microseconds.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable
from pathlib import Path

# Of linux/fcntl.h and linux/stat.h.
_AT_FDCWD = -100
_AT_SYMLINK_NOFOLLOW = 0x100
_AT_STATX_FORCE_SYNC = 0x2000
_AT_EMPTY_PATH = 0x1000
_STATX_BASIC_STATS = 0x7FF
_STATX_BYTES = 256


def _found() -> Callable[..., int] | None:
    try:
        return ctypes.CDLL(None).statx
    except (OSError, AttributeError):
        # Neither Linux of 2017 nor a C library of 2018: what is remembered must do.
        return None


_statx = _found()


def look(*places: Path) -> None:
    """Ask the volume anew about directories or files; what is not there is none's fault."""
    if _statx is None:
        return
    answer = ctypes.create_string_buffer(_STATX_BYTES)
    flags = _AT_STATX_FORCE_SYNC | _AT_SYMLINK_NOFOLLOW
    for place in places:
        # The answer is thrown away: it is in this host's memory now, where lstat(2) finds it.
        _statx(_AT_FDCWD, os.fsencode(place), flags, _STATX_BASIC_STATS, answer)


def look_into(fd: int) -> None:
    """Ask the volume anew about an open file: no more of it is read than its size tells."""
    if _statx is not None:
        answer = ctypes.create_string_buffer(_STATX_BYTES)
        flags = _AT_STATX_FORCE_SYNC | _AT_EMPTY_PATH
        _statx(fd, b"", flags, _STATX_BASIC_STATS, answer)


def lstat(path: Path) -> os.stat_result:
    """Return the status of a file as it is now; raises OSError."""
    look(path)
    return path.lstat()
