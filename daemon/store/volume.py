"""Who uses a volume, and whether it is still the one that was verified.

What a node remembers of files is their size and time of change, which rsync copies, and so does who
puts another disk in the place of the first. Therefore it also remembers on which volume they were:
by an id that lies there, and by the inode of the file that holds it, which no copy shares. On
another volume everything is hashed again.
"""

from __future__ import annotations

import fcntl
import logging
import os
import secrets

from dreamer.daemon.state import State
from dreamer.daemon.store.locks import NONE_HERE, holder, no_locks
from dreamer.daemon.store.places import Places
from dreamer.protocol.errors import LocalError

log = logging.getLogger(__name__)

_ID_BYTES = 16


class SharedStoreLock:
    """Held by every process that uses a store; a Dreamer that can't share it wants it alone.

    Raises:
        LocalError: such a one has it, or the file system has no locks.
        OSError: the file can't be made.
    """

    def __init__(self, places: Places) -> None:
        path = places.inner / "store.lock"
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            # The kind of lock that earlier versions hold exclusively.
            fcntl.flock(self._fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError as error:
            os.close(self._fd)
            raise LocalError(
                f"the store at {places.root} is in use by an older dreamerd, which can't share it "
                f"({holder(path)}): stop that one first, or choose another MODELS_DIR"
            ) from error
        except OSError as error:
            os.close(self._fd)
            if error.errno in NONE_HERE:
                raise no_locks(path, error) from error
            raise

    def close(self) -> None:
        """Use the store no more."""
        os.close(self._fd)


def forget_other_volume(places: Places, state: State) -> None:
    """Trust no file as verified unless this is the volume on which it was. Raises OSError."""
    here = _identity(places)
    if state.volume() == here:
        return
    log.info("the store at %s is new to this node: what it holds is verified anew", places.root)
    state.set_volume(here)


def _identity(places: Places) -> str:
    path = places.inner / "store.id"
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o644)
    except FileExistsError:
        pass
    else:
        try:
            os.write(fd, secrets.token_hex(_ID_BYTES).encode())
        finally:
            os.close(fd)
    with path.open("rb") as file:
        said = file.read(2 * _ID_BYTES).decode(errors="replace")
        return f"{said}:{os.fstat(file.fileno()).st_ino}"
