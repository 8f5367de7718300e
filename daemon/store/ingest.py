"""Taking a model in: read once, and what is hashed is what is stored."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from dreamer.daemon.store import beneath, space
from dreamer.daemon.store.copying import clone, preallocate
from dreamer.daemon.store.files import StoredFiles, stamp_of
from dreamer.daemon.store.hashing import ContentHashes, CopyHasher, OnBytes
from dreamer.daemon.store.source import Source, SourceFile
from dreamer.protocol.content.manifest import FileEntry, Manifest
from dreamer.protocol.content.outboard import Outboard
from dreamer.protocol.errors import InputError

OnProgress = Callable[[int, int], None]
"""Told bytes done and bytes in all."""


@dataclass(frozen=True)
class Ingested:
    """What a staged source is, as a model."""

    manifest: Manifest
    outboard: Outboard


class Ingest:
    """Takes in one source by way of ``staging``; a context manager that leaves none of it behind.

    Methods raise OSError as the disk does.
    """

    def __init__(self, source: Source, staging: Path, files: StoredFiles) -> None:
        self._source = source
        self._staging = staging
        self._files = files

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
        self._foresee()
        return self._describe(self._copy(progress, stop))

    def _foresee(self) -> None:
        """Refuse what won't fit; a file system that shares extents needs no room for copies."""
        if space.fits(self._source.size_bytes, self._staging) or self._can_clone():
            return
        space.require(self._source.size_bytes, self._staging)

    def _can_clone(self) -> bool:
        probe = self._staging / "probe"
        first = self._source.files[0].path
        with (
            beneath.directory(self._source.root) as root_fd,
            beneath.file(root_fd, first, os.O_RDONLY) as fd,
            beneath.opened(_new(probe)) as target,
        ):
            return clone(fd, target)

    def _copy(self, progress: OnProgress, stop: threading.Event) -> list[ContentHashes]:
        done = 0
        total = self._source.size_bytes

        def on_bytes(count: int) -> None:
            nonlocal done
            done += count
            progress(done, total)

        with beneath.directory(self._source.root) as root_fd, CopyHasher() as hasher:
            return [
                self._take(number, root_fd, hasher, on_bytes, stop)
                for number in range(len(self._source.files))
            ]

    def _take(
        self,
        number: int,
        root_fd: int,
        hasher: CopyHasher,
        on_bytes: OnBytes,
        stop: threading.Event,
    ) -> ContentHashes:
        file = self._source.files[number]
        with (
            beneath.file(root_fd, file.path, os.O_RDONLY) as fd,
            beneath.opened(_new(self._staging / str(number))) as target,
        ):
            # Of the open file: the name may mean another one by now.
            before = stamp_of(os.fstat(fd))
            # A clone no longer changes when the source does, so it is the clone that is hashed.
            if clone(fd, target):
                hashes = hasher.run(target, None, before.size_bytes, on_bytes, stop)
            else:
                preallocate(target, before.size_bytes)
                hashes = hasher.run(fd, target, before.size_bytes, on_bytes, stop)
            changed = stamp_of(os.fstat(fd)) != before
        self._check(file, hashes, changed)
        return hashes

    def _check(self, file: SourceFile, hashes: ContentHashes, changed: bool) -> None:
        if changed or hashes.size_bytes != file.size_bytes:
            raise InputError(
                f"{file.path} changed while it was read: push again when nothing writes to it"
            )

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
            with beneath.opened(os.open(staged, os.O_RDWR | os.O_NOFOLLOW)) as fd:
                self._files.adopt(fd, staged, entry.digest)


def _new(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
