"""Bytes from one file to another: shared by the file system where it can, else copied."""

from __future__ import annotations

import fcntl
import os
import threading
from collections.abc import Callable

from dreamer.daemon.store import stopping
from dreamer.protocol.limits import STORE_READ_BYTES

# _IOW(0x94, 9, int) of linux/fs.h: make one file share another's extents.
_FICLONE = 0x40049409


def clone(source_fd: int, target_fd: int) -> bool:
    """Make an empty file share the other's bytes; say whether the file system could."""
    try:
        fcntl.ioctl(target_fd, _FICLONE, source_fd)
    except OSError:
        return False
    return True


def preallocate(fd: int, size_bytes: int) -> None:
    """Reserve the room of a file, so that a full disk shows now; raises OSError.

    What is not yet written stays a hole to SEEK_DATA.
    """
    # Not every system has it; there, a full disk shows only when it is written.
    reserve: Callable[[int, int, int], None] | None = getattr(os, "posix_fallocate", None)
    if reserve is not None and size_bytes:
        reserve(fd, 0, size_bytes)
    # Also cuts what is too long, and makes the size right where nothing was reserved.
    os.ftruncate(fd, size_bytes)


def fill(fd: int, buffer: memoryview, offset: int) -> int:
    """Read until ``buffer`` is full or the file ends; return the bytes read."""
    done = 0
    # A read may give less than asked for, on network file systems above all.
    while done < len(buffer):
        count = os.preadv(fd, [buffer[done:]], offset + done)
        if count == 0:
            break
        done += count
    return done


def write_all(fd: int, data: memoryview | bytes, offset: int) -> None:
    """Write all of ``data`` at ``offset``; raises OSError."""
    view = memoryview(data)
    while view:
        count = os.pwrite(fd, view, offset)
        view = view[count:]
        offset += count


def copy(source_fd: int, target_fd: int, stop: threading.Event | None = None) -> None:
    """Fill an empty file with the other's bytes; raises OSError, StoppedError."""
    if clone(source_fd, target_fd):
        return
    buffer = memoryview(bytearray(STORE_READ_BYTES))
    offset = 0
    while count := fill(source_fd, buffer, offset):
        if stop is not None:
            stopping.check(stop)
        write_all(target_fd, buffer[:count], offset)
        offset += count
