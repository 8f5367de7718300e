"""The Unix socket between the daemon and its clients, however deep its home lies.

A socket's path must fit into 108 bytes (``sockaddr_un``). A longer one is reached through
``/proc/self/fd/<directory>/name`` where the system has that (Linux), by both sides.
"""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from dreamer.protocol.errors import LocalError
from dreamer.protocol.limits import REST_BACKLOG_CONNECTIONS, UNIX_PATH_MAX_BYTES

_DESCRIPTORS = Path("/proc/self/fd")


def connect(path: Path, timeout_s: float) -> socket.socket:
    """Return a socket connected to the daemon at ``path``.

    Raises:
        OSError: nobody accepts there.
        LocalError: the path is too long for this system.
    """
    end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        end.settimeout(timeout_s)
        with _reachable(path) as name:
            end.connect(name)
    except BaseException:
        end.close()
        raise
    return end


def listen(path: Path, mode: int) -> socket.socket:
    """Return a listening socket at ``path``; one that a dead daemon left there is removed.

    Its directory is made if it is missing and opened to the group (0750) if ``mode`` is, else to
    nobody else (0700). Nobody can connect before the socket has its ``mode``.

    Raises:
        LocalError: somebody accepts there already, or something else is in the way.
    """
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    _remove_stale(path)
    end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _reachable(path) as name:
            end.bind(name)
        # Nobody can connect between bind and listen, so the default mode is never open to anyone.
        path.chmod(mode)
        path.parent.chmod(0o750 if mode & 0o070 else 0o700)
        end.listen(REST_BACKLOG_CONNECTIONS)
    except OSError as error:
        end.close()
        raise LocalError(f"can't listen on {path}: {error}; choose another --home") from error
    except BaseException:
        end.close()
        raise
    return end


def _remove_stale(path: Path) -> None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise LocalError(f"{path} is in the way and is not a socket: move it elsewhere")
    # A socket file outlives its daemon; only an answer shows that one is there.
    try:
        connect(path, timeout_s=1.0).close()
    except OSError:
        path.unlink(missing_ok=True)
    else:
        raise LocalError(f"another dreamerd accepts on {path}: stop it or choose another --home")


@contextmanager
def _reachable(path: Path) -> Iterator[str]:
    """Yield a name of ``path`` that is short enough for a socket address."""
    if len(os.fsencode(path)) <= UNIX_PATH_MAX_BYTES:
        yield str(path)
        return
    if not _DESCRIPTORS.is_dir():
        raise LocalError(
            f"the path {path} is too long for a socket: choose a home whose path has at most "
            f"{UNIX_PATH_MAX_BYTES - len('/run/dreamerd.sock')} bytes"
        )
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        yield str(_DESCRIPTORS / str(directory) / path.name)
    finally:
        os.close(directory)
