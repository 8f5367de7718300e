"""What the user wants to push: a file or directory, looked over before a byte is copied."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dreamer.daemon.store import beneath
from dreamer.daemon.store.pickles import is_pickle, may_be_pickle
from dreamer.protocol.content.paths import check_paths
from dreamer.protocol.errors import InputError


@dataclass(frozen=True)
class SourceFile:
    """A file to take in: its path below the source's root, and its size."""

    path: str
    size_bytes: int


@dataclass(frozen=True)
class Source:
    """A directory, and the files of it that make up the model, sorted by path."""

    root: Path
    files: tuple[SourceFile, ...]

    @property
    def size_bytes(self) -> int:
        """Bytes of all files together."""
        return sum(file.size_bytes for file in self.files)


def scan(place: Path, keep_out: Path, allow_pickle: bool) -> Source:
    """Look over a file or directory; ``keep_out`` is the store, which can't take in itself.

    Raises:
        InputError: it isn't there, is empty, holds links, devices or (unless allowed) pickles,
            or names that other systems can't store; the message names the file.
    """
    try:
        # A link named by the user is the user's choice; one found inside is not.
        real = place.resolve(strict=True)
        source = _scan(real, keep_out.resolve())
        if not allow_pickle:
            _refuse_pickles(source)
    except OSError as error:
        raise InputError(f"can't read {error.filename or place}: {error.strerror}") from error
    # Now, rather than after hashing gigabytes.
    check_paths(file.path for file in source.files)
    return source


def _scan(real: Path, keep_out: Path) -> Source:
    # It would take in itself, growing as it reads.
    if keep_out.is_relative_to(real):
        raise InputError(f"{real} holds the store itself: name the directory of one model")
    if real.is_dir():
        found = sorted(_walk(real), key=lambda file: file.path)
        if not found:
            raise InputError(f"{real} holds no file: nothing to push")
        return Source(real, tuple(found))
    only = _look(real.stat(), real.name, real)
    return Source(real.parent, (only,))


def _walk(root: Path) -> Iterator[SourceFile]:
    for directory, inner, names, fd in os.fwalk(root, onerror=_raise):
        below = Path(directory).relative_to(root)
        # os.fwalk lists links to directories here, and does not follow them.
        for name in inner:
            status = os.stat(name, dir_fd=fd, follow_symlinks=False)
            if not stat.S_ISDIR(status.st_mode):
                raise _refusal(status, below / name)
        for name in names:
            status = os.stat(name, dir_fd=fd, follow_symlinks=False)
            yield _look(status, (below / name).as_posix(), below / name)


def _raise(error: OSError) -> None:
    raise error


def _look(status: os.stat_result, path: str, shown: Path) -> SourceFile:
    if not stat.S_ISREG(status.st_mode):
        raise _refusal(status, shown)
    return SourceFile(path, status.st_size)


def _refusal(status: os.stat_result, shown: Path) -> InputError:
    if stat.S_ISLNK(status.st_mode):
        return InputError(f"{shown} is a symbolic link: put the file itself there, or leave it out")
    return InputError(f"{shown} is neither a file nor a directory: leave it out")


def _refuse_pickles(source: Source) -> None:
    suspects = [file.path for file in source.files if may_be_pickle(file.path)]
    if not suspects:
        return
    with beneath.directory(source.root) as root_fd:
        for path in suspects:
            with beneath.file(root_fd, path, os.O_RDONLY) as fd:
                _refuse_pickle(path, fd)


def _refuse_pickle(path: str, fd: int) -> None:
    with open(fd, "rb", closefd=False) as file:
        if is_pickle(path, file):
            raise InputError(
                f"{path} is a pickle, which can run any code when loaded: convert it to "
                "safetensors, GGUF or ONNX, or push it with --allow-pickle"
            )
