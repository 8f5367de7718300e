"""A lock that one process holds and that ends with it, however it ends; the file names its pid."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from dreamer.protocol.errors import LocalError

_PID_MAX_BYTES = 32


class ProcessLock:
    """Holds ``path`` locked until closed. ``refusal`` says what to do; ``{pid}`` is the holder's.

    Raises:
        LocalError: another process holds it.
        OSError: the file can't be made.
    """

    def __init__(self, path: Path, refusal: str) -> None:
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(self._fd, _PID_MAX_BYTES, 0).decode(errors="replace").strip()
            os.close(self._fd)
            raise LocalError(refusal.replace("{pid}", holder or "unknown")) from error
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def close(self) -> None:
        """Let go of the lock."""
        os.close(self._fd)
