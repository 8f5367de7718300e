"""Opening what lies below a directory without ever following a link on the way."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW


@contextmanager
def opened(fd: int) -> Iterator[int]:
    """Close a file descriptor at the end."""
    try:
        yield fd
    finally:
        os.close(fd)


@contextmanager
def directory(path: Path) -> Iterator[int]:
    """Open the directory at ``path``; links on the way to it are its owner's choice."""
    with opened(os.open(path, os.O_RDONLY | os.O_DIRECTORY)) as fd:
        yield fd


@contextmanager
def parent(root_fd: int, path: str, make: bool = False) -> Iterator[tuple[int, str]]:
    """Yield the directory that holds ``path`` (joined by ``/``) below ``root_fd``, and its name.

    With ``make``, directories that aren't there are made. Raises OSError as the system does;
    a link in the place of a directory is ELOOP or ENOTDIR.
    """
    # Step by step: O_NOFOLLOW speaks only of the last part of a path.
    *parts, name = path.split("/")
    # A copy, so that the loop can close what it leaves and never the caller's.
    fd = os.dup(root_fd)
    try:
        for part in parts:
            if make:
                with suppress(FileExistsError):
                    os.mkdir(part, dir_fd=fd)
            inner = os.open(part, _DIRECTORY, dir_fd=fd)
            os.close(fd)
            fd = inner
        yield fd, name
    finally:
        os.close(fd)


@contextmanager
def file(root_fd: int, path: str, flags: int, mode: int = 0o600) -> Iterator[int]:
    """Open the file at ``path`` below ``root_fd``; never a link, never waiting for a pipe."""
    with parent(root_fd, path) as (fd, name):
        # Without O_NONBLOCK, a pipe put in a file's place would hang us.
        found = os.open(name, flags | os.O_NOFOLLOW | os.O_NONBLOCK, mode, dir_fd=fd)
    with opened(found):
        yield found


def lstat(root_fd: int, path: str) -> os.stat_result | None:
    """Return the status of ``path`` below ``root_fd``, None if it or a directory isn't there."""
    try:
        with parent(root_fd, path) as (fd, name):
            return os.stat(name, dir_fd=fd, follow_symlinks=False)
    except OSError:
        return None
