"""Bytes from one file to another: shared by the file system where it can, else copied."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import threading
from collections.abc import Callable
from typing import Any, cast

from dreamer.daemon.store import stopping
from dreamer.protocol.limits import STORE_READ_BYTES

# Not os.posix_fallocate: where the file system can't, glibc writes a byte into every page, which
# sends the whole file as zeros over the network and leaves no hole to tell what has come.
_NOT_RESERVED = (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
# _IOW(0x94, 9, int) of linux/fs.h: make one file share another's extents.
_FICLONE = 0x40049409


def _found() -> Callable[[int, int, int, int], int] | None:
    library = ctypes.CDLL(None, use_errno=True)
    # glibc has both; musl, whose sizes always have 64 bits, only the second.
    call: Any = getattr(library, "fallocate64", None) or getattr(library, "fallocate", None)
    if call is None:
        return None
    call.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
    return cast(Callable[[int, int, int, int], int], call)


# Not every system has it; there, a full disk shows only when it is written.
_fallocate = _found()


def clone(source_fd: int, target_fd: int) -> bool:
    """Make an empty file share the other's bytes; say whether the file system could."""
    try:
        fcntl.ioctl(target_fd, _FICLONE, source_fd)
    except OSError:
        return False
    return True


def preallocate(fd: int, size_bytes: int) -> None:
    """Reserve the room of a file, so that a full disk shows now; raises OSError.

    What is not yet written stays a hole to SEEK_DATA. Where nothing can be reserved (NFS before
    4.2, SMB, many FUSE), only the size is made right.
    """
    while _fallocate is not None and size_bytes and _fallocate(fd, 0, 0, size_bytes) != 0:
        number = ctypes.get_errno()
        if number in _NOT_RESERVED:
            break
        if number != errno.EINTR:
            raise OSError(number, os.strerror(number))
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
