"""One process per store: a lock that ends with its holder, however that one ends."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path

from dreamer.protocol.errors import LocalError

_PID_MAX_BYTES = 32


class StoreLock:
    """Holds ``path`` locked until closed.

    Raises:
        LocalError: another process holds it; the message names its pid.
    """

    def __init__(self, path: Path) -> None:
        # Not truncated on opening: until locked, the pid in it is the holder's.
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        try:
            # The kernel lets go when the process ends, so a killed one leaves no stale lock.
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            holder = os.pread(self._fd, _PID_MAX_BYTES, 0).decode(errors="replace").strip()
            os.close(self._fd)
            raise LocalError(
                f"the store at {path.parent.parent} is in use by process {holder or 'unknown'}: "
                "stop that one first, or choose another MODELS_DIR"
            ) from error
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()}\n".encode(), 0)

    def close(self) -> None:
        """Let go of the lock."""
        os.close(self._fd)
