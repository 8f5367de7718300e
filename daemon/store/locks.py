"""Locks between processes and between hosts, that end with whoever holds them, however it ends.

A lock is a whole file, held through an open file description of its own ("OFD lock", fcntl(2)): it
is let go when that is closed, so by any crash too, and two threads exclude each other by it as two
processes do. On NFS such a lock is kept by the server and ends with the client's lease; unlike
flock(2) it also excludes the processes on the server itself. Where the system has none (macOS),
flock(2) does.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dreamer.protocol.cache_limits import (
    STORE_CHANGE_TIMEOUT_S,
    STORE_LOCK_POLL_S,
    STORE_LOCK_TRIES,
    STORE_NOTE_MAX_BYTES,
)
from dreamer.protocol.errors import DiskError, LocalError

_SET: int | None = getattr(fcntl, "F_OFD_SETLK", None)
_GET: int | None = getattr(fcntl, "F_OFD_GETLK", None)
# struct flock of fcntl(2): type, whence, start, length (0: to the end), pid (0 for these locks).
_FLOCK = struct.Struct("@hhqqi4x")
_HELD = (errno.EAGAIN, errno.EACCES)
_NONE_HERE = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


class HeldElsewhereError(LocalError):
    """Another process has what was wanted; ``holder`` says which, for a person."""

    def __init__(self, problem: str, holder: str) -> None:
        super().__init__(f"{problem} ({holder}): wait for that, or stop it there")
        self.holder = holder


class FileLock:
    """A lock that is held until it is closed; made by ``take``."""

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self._fd = fd

    @classmethod
    def take(cls, path: Path, *, exclusive: bool) -> FileLock | None:
        """Lock ``path``, made if it is not there; None if somebody holds it otherwise.

        Raises:
            LocalError: this file system has no locks.
            OSError: the file can't be made.
        """
        for _ in range(STORE_LOCK_TRIES):
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            try:
                taken = _try(fd, path, exclusive)
                # Whoever held it before may have removed the file: then it locks nothing any more.
                if taken and not _is_at(fd, path):
                    os.close(fd)
                    continue
            except BaseException:
                os.close(fd)
                raise
            if not taken:
                os.close(fd)
                return None
            if exclusive:
                _sign(fd)
            return cls(path, fd)
        return None

    @property
    def fd(self) -> int:
        """The file that is locked."""
        return self._fd

    def close(self) -> None:
        """Let go of it."""
        os.close(self._fd)

    def discard(self) -> None:
        """Remove the file and let go; only for who holds it exclusively."""
        self.path.unlink(missing_ok=True)
        os.close(self._fd)

    def __enter__(self) -> FileLock:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def is_held(path: Path) -> bool:
    """Return whether anybody holds a lock on ``path``, exclusively or with others."""
    try:
        fd = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        if _GET is None:
            # Asking without taking is not possible there; it is let go in a moment.
            return not _try(fd, path, exclusive=True)
        answer = fcntl.fcntl(fd, _GET, _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0))
        return bool(_FLOCK.unpack(answer)[0] != fcntl.F_UNLCK)
    finally:
        os.close(fd)


def holder(path: Path) -> str:
    """Return who locked ``path`` exclusively last: ``process 12 on host lab-1``."""
    try:
        said = path.read_bytes()[:STORE_NOTE_MAX_BYTES].decode(errors="replace").split()
    except OSError:
        said = []
    match said:
        case [pid, host]:
            return f"process {pid} on host {host}"
    return "another process"


@contextmanager
def waited_for(path: Path, what: str) -> Iterator[None]:
    """Hold ``path`` exclusively; for work that takes moments.

    Raises:
        DiskError: it was not to be had for long: its holder, or the volume, hangs.
    """
    deadline = time.monotonic() + STORE_CHANGE_TIMEOUT_S
    while (lock := FileLock.take(path, exclusive=True)) is None:
        if time.monotonic() > deadline:
            raise DiskError(
                f"{what} is held by {holder(path)}", "see whether that hangs, and try again"
            )
        time.sleep(STORE_LOCK_POLL_S)
    try:
        yield
    finally:
        lock.close()


def _try(fd: int, path: Path, exclusive: bool) -> bool:
    try:
        if _SET is None:
            fcntl.flock(fd, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | fcntl.LOCK_NB)
        else:
            kind = fcntl.F_WRLCK if exclusive else fcntl.F_RDLCK
            fcntl.fcntl(fd, _SET, _FLOCK.pack(kind, os.SEEK_SET, 0, 0, 0))
    except OSError as error:
        if error.errno in _HELD:
            return False
        if error.errno in _NONE_HERE:
            raise LocalError(
                f"the file system of {path} has no locks ({error.strerror}): mount it with locks "
                "(NFS: version 4, without 'nolock'), or choose another MODELS_DIR"
            ) from error
        raise
    return True


def _is_at(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False


def _sign(fd: int) -> None:
    """Write into a locked file who holds it: of these locks the system doesn't tell."""
    note = f"{os.getpid()} {socket.gethostname()}".encode()[:STORE_NOTE_MAX_BYTES]
    try:
        # Always as long, for a file that was cut and written anew is flushed by ext4 at its close:
        # some milliseconds for a lock that is held for less than one.
        os.pwrite(fd, note.ljust(STORE_NOTE_MAX_BYTES), 0)
    except OSError:
        # On a full disk the lock holds all the same; only its holder's name is lacking.
        return
