"""Taking a model in: read once, and what is hashed is what is stored."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from dreamer.daemon.state import Stamp
from dreamer.daemon.store import beneath, space
from dreamer.daemon.store.copying import clone, preallocate
from dreamer.daemon.store.files import StoredFiles, stamp_of
from dreamer.daemon.store.hashing import ContentHashes, CopyHasher, OnBytes
from dreamer.daemon.store.quota import Admission, Need, room_for
from dreamer.daemon.store.source import Source
from dreamer.protocol.content.manifest import FileEntry, Manifest
from dreamer.protocol.content.outboard import Outboard
from dreamer.protocol.errors import InputError

_WRITE = os.O_RDWR | os.O_NOFOLLOW

OnProgress = Callable[[int, int], None]
"""Told bytes done and bytes in all."""


@dataclass(frozen=True)
class Ingested:
    """What a staged source is, as a model."""

    manifest: Manifest
    outboard: Outboard


@dataclass(frozen=True)
class _Staged:
    """A source's file in staging, and how the source looked when its room was taken."""

    number: int
    stamp: Stamp
    cloned: bool


class Ingest:
    """Takes in one source by way of ``staging``; a context manager that leaves none of it behind.

    Methods raise OSError as the disk does.
    """

    def __init__(
        self, source: Source, staging: Path, files: StoredFiles, admission: Admission
    ) -> None:
        self._source = source
        self._staging = staging
        self._files = files
        self._admission = admission

    def __enter__(self) -> Ingest:
        self._staging.mkdir()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        # What was adopted has been renamed out of here.
        shutil.rmtree(self._staging)

    def stage(self, progress: OnProgress, stop: threading.Event) -> Ingested:
        """Copy and hash all files.

        Raises:
            InputError: a file changed while it was read.
            LocalError: the disk has not enough room.
            StoppedError: ``stop`` was set.
        """
        return self._describe(self._copy(self._reserve(), progress, stop))

    def _reserve(self) -> list[_Staged]:
        """Make all staged files in their full size, so that nothing can take their room.

        A file system that shares extents needs none for copies: they are made here and now.
        """
        with (
            beneath.directory(self._source.root) as root_fd,
            self._admission() as admit,
        ):
            admit(self._need(root_fd))
            return [self._place(number, root_fd) for number in range(len(self._source.files))]

    def _need(self, root_fd: int) -> Need:
        # A copy that shares extents counts in full against the quota: its original may go.
        counted = sum(room_for(file.size_bytes) for file in self._source.files)
        size_bytes = self._source.size_bytes
        if not space.fits(size_bytes, self._staging) and self._can_clone(root_fd):
            size_bytes = 0
        return Need(size_bytes, counted)

    def _can_clone(self, root_fd: int) -> bool:
        probe = self._staging / "probe"
        first = self._source.files[0].path
        with (
            beneath.file(root_fd, first, os.O_RDONLY) as fd,
            beneath.opened(_new(probe)) as target,
        ):
            cloned = clone(fd, target)
        probe.unlink()
        return cloned

    def _place(self, number: int, root_fd: int) -> _Staged:
        path = self._source.files[number].path
        with (
            beneath.file(root_fd, path, os.O_RDONLY) as fd,
            beneath.opened(_new(self._staging / str(number))) as target,
        ):
            before = stamp_of(os.fstat(fd))
            if before.size_bytes != self._source.files[number].size_bytes:
                raise _changed(path)
            # A clone no longer changes when the source does, so it is the clone that is hashed.
            cloned = clone(fd, target)
            if not cloned:
                preallocate(target, before.size_bytes)
            return _Staged(number, before, cloned)

    def _copy(
        self, staged: list[_Staged], progress: OnProgress, stop: threading.Event
    ) -> list[ContentHashes]:
        done = 0
        total = self._source.size_bytes

        def on_bytes(count: int) -> None:
            nonlocal done
            done += count
            progress(done, total)

        with beneath.directory(self._source.root) as root_fd, CopyHasher() as hasher:
            return [self._take(one, root_fd, hasher, on_bytes, stop) for one in staged]

    def _take(
        self,
        staged: _Staged,
        root_fd: int,
        hasher: CopyHasher,
        on_bytes: OnBytes,
        stop: threading.Event,
    ) -> ContentHashes:
        file, before = self._source.files[staged.number], staged.stamp
        with (
            beneath.file(root_fd, file.path, os.O_RDONLY) as fd,
            beneath.opened(os.open(self._staging / str(staged.number), _WRITE)) as target,
        ):
            if staged.cloned:
                hashes = hasher.run(target, None, before.size_bytes, on_bytes, stop)
            else:
                hashes = hasher.run(fd, target, before.size_bytes, on_bytes, stop)
            # Of the open file: the name may mean another one than when its size was looked at.
            changed = stamp_of(os.fstat(fd)) != before
        if changed or hashes.size_bytes != file.size_bytes:
            raise _changed(file.path)
        return hashes

    def _describe(self, hashes: list[ContentHashes]) -> Ingested:
        outboard = Outboard(b"".join(each.blocks for each in hashes))
        entries = tuple(
            FileEntry(file.path, each.size_bytes, each.file.digest, each.file.shards)
            for file, each in zip(self._source.files, hashes, strict=True)
        )
        manifest = Manifest(entries, outboard.digest, outboard.block_count)
        return Ingested(manifest, outboard)

    def adopt(self, manifest: Manifest) -> None:
        """Move the staged files into the store."""
        for number, entry in enumerate(manifest.files):
            # Stored before, or earlier in this very model: once is enough.
            if self._files.trusted(entry):
                continue
            staged = self._staging / str(number)
            with beneath.opened(os.open(staged, _WRITE)) as fd:
                self._files.adopt(fd, staged, entry.digest)


def _new(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)


def _changed(path: str) -> InputError:
    return InputError(f"{path} changed while it was read: push again when nothing writes to it")
