"""Locks between processes and between hosts, that end with whoever holds them, however it ends.

A lock is a whole file, held through an open file description of its own ("OFD lock", fcntl(2)): it
is let go when that is closed, so by any crash too, and two threads exclude each other by it as two
processes do. On NFS such a lock is kept by the server and ends with the client's lease; unlike
flock(2) it also excludes the processes on the server itself. Where the system has none (macOS),
flock(2) does.

Whoever removes a lock file says so in the file, too: another host may believe for seconds that a
name is there which is gone (FUSE and NFS cache both names and link counts), and would hold a lock
that excludes nobody. Its bytes are read through the server by whoever has just locked it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import struct
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from dreamer.daemon.store import beneath, fresh
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
NONE_HERE = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)
_PLAINLY = os.O_NOFOLLOW | os.O_CLOEXEC
_GONE = (errno.ENOENT, errno.ESTALE)
_REMOVED = b"removed"


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
            try:
                lock = cls(path, os.open(path, os.O_RDWR | os.O_CREAT | _PLAINLY, 0o600))
                taken = lock._taken(exclusive)
            except OSError as error:
                # The server has no such file any more, whatever this host believed of its name; or
                # two hosts made it in the same moment, which GlusterFS tells one of them so.
                if error.errno in (errno.ESTALE, errno.EEXIST):
                    continue
                raise
            if taken is None:
                continue
            if taken and exclusive:
                lock.sign()
            return lock if taken else None
        return None

    def _taken(self, exclusive: bool) -> bool | None:
        """Lock the file; None if it is not the one at ``path`` any more. Closed unless True."""
        taken = removed = False
        try:
            taken = _try(self._fd, self.path, exclusive)
            # Whoever held it before may have removed the file: then it locks nothing any more.
            removed = taken and _is_removed(self._fd, self.path)
        except BaseException:
            os.close(self._fd)
            raise
        if not taken or removed:
            self.close()
        return None if removed else taken

    @property
    def fd(self) -> int:
        """The file that is locked."""
        return self._fd

    def sign(self, more: str = "") -> None:
        """Write into the file who holds it: of these locks the system doesn't tell."""
        words = f"{os.getpid()} {socket.gethostname()} {more}"
        said = words.encode()[:STORE_NOTE_MAX_BYTES].ljust(STORE_NOTE_MAX_BYTES)
        # Through a descriptor that is closed at once, or an NFS client keeps it to itself until the
        # lock is let go. Always as long, for a file that was cut and written anew is flushed by
        # ext4 at its close: some milliseconds for a lock that is held for less than one. On a full
        # disk the lock holds all the same; only its holder's name is lacking.
        with (
            suppress(OSError),
            beneath.opened(os.open(self.path, os.O_WRONLY | _PLAINLY)) as own,
        ):
            os.pwrite(own, said, 0)

    def renew(self) -> bool:
        """Hold the file from now on by a new descriptor and together with others: with nobody.

        A server ends the locks of a host that it didn't hear of for a while, and the old descriptor
        knows nothing of that. Whoever wants the file exclusively is kept out meanwhile, and after.
        Returns False where somebody else has it now: then it is not held any more.

        Raises:
            LocalError: this file system has no locks any more.
            OSError: the volume is out of reach.
        """
        if not self._share():
            # Ended by the server. What this host's kernel still believes would keep ourselves out.
            _unlock(self._fd)
        again = FileLock.take(self.path, exclusive=False)
        if again is None:
            return False
        self._fd, again._fd = again._fd, self._fd
        again.close()
        return True

    def _share(self) -> bool:
        try:
            return _try(self._fd, self.path, exclusive=False)
        except (OSError, LocalError):
            return False

    def close(self) -> None:
        """Let go of it."""
        try:
            # Closing alone is told to the server of a FUSE mount later, by nobody knows how much.
            _unlock(self._fd)
        finally:
            os.close(self._fd)

    def discard(self) -> None:
        """Remove the file and let go; only for who holds it alone."""
        # In this order: a crash in between leaves no file that nobody could ever lock.
        self.path.unlink(missing_ok=True)
        with suppress(OSError):
            os.pwrite(self._fd, _REMOVED.ljust(STORE_NOTE_MAX_BYTES), 0)
        self.close()

    def __enter__(self) -> FileLock:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def is_held(path: Path) -> bool:
    """Return whether anybody holds a lock on ``path``, exclusively or with others."""
    try:
        fd = os.open(path, os.O_RDWR | _PLAINLY)
    except OSError as error:
        if error.errno in _GONE:
            return False
        raise
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
    match note(path).decode(errors="replace").split():
        case [pid, host, *_]:
            return f"process {pid} on host {host}"
    return "another process"


def note(path: Path) -> bytes:
    """Return what the last holder of a lock wrote into it; nothing if it can't be read."""
    try:
        with beneath.opened(os.open(path, os.O_RDONLY | _PLAINLY)) as fd:
            return _read(fd)
    except OSError:
        return b""


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
        if error.errno in NONE_HERE:
            raise no_locks(path, error) from error
        raise
    return True


def no_locks(path: Path, error: OSError) -> LocalError:
    """Return what to say where a file system answers that it has none (``NONE_HERE``)."""
    return LocalError(
        f"the file system of {path} has no locks ({error.strerror}): mount it with locks (NFS: "
        "version 4, without 'nolock'; Lustre: with 'flock'), or choose another MODELS_DIR"
    )


def _unlock(fd: int) -> None:
    with suppress(OSError):
        if _SET is None:
            fcntl.flock(fd, fcntl.LOCK_UN)
        else:
            fcntl.fcntl(fd, _SET, _FLOCK.pack(fcntl.F_UNLCK, os.SEEK_SET, 0, 0, 0))


def _is_removed(fd: int, path: Path) -> bool:
    """Return whether a file that was locked just now has been taken away from ``path``."""
    try:
        if not os.path.samestat(os.fstat(fd), path.stat()):
            return True
        return _read(fd).startswith(_REMOVED)
    except OSError as error:
        if error.errno in _GONE:
            return True
        raise


def _read(fd: int) -> bytes:
    """Read a lock file as it is at the server, not as this host remembers it."""
    # Who made the file may remember it as empty, and would read nothing of what others wrote.
    fresh.look_into(fd)
    forget: Callable[[int, int, int, int], None] | None = getattr(os, "posix_fadvise", None)
    if forget is not None:
        forget(fd, 0, 0, os.POSIX_FADV_DONTNEED)
    return os.pread(fd, STORE_NOTE_MAX_BYTES, 0)
