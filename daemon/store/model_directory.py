"""A model as its user sees it: a directory of read-only files that share the store's bytes.

Files are hard links where the file system allows, else share extents, else are copied. A
directory is built aside and renamed, so that it is there whole or not at all; one that the store
made before is repaired file by file.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from dreamer.daemon.store import beneath
from dreamer.daemon.store.copying import copy
from dreamer.daemon.store.files import READ_ONLY, StoredFiles, stamp_of
from dreamer.daemon.store.hashing import hash_file
from dreamer.protocol.content.manifest import FileEntry, Manifest
from dreamer.protocol.ids import ManifestId, short
from dreamer.protocol.limits import MODEL_DIRECTORY_NAME_MAX_CHARS


def directory_name(name: str, manifest_id: ManifestId) -> str:
    """Return what the directory of a model called ``name`` is called, safe on any system."""
    # The name comes from the registry, so from somebody else.
    plain = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip(".-_")[:MODEL_DIRECTORY_NAME_MAX_CHARS]
    return f"{plain or 'model'}-{short(manifest_id)}"


class ModelDirectory:
    """The directory at ``path`` that holds, or is to hold, a model. Methods raise OSError."""

    def __init__(self, path: Path, manifest: Manifest, files: StoredFiles) -> None:
        self._path = path
        self._manifest = manifest
        self._files = files

    def is_free(self) -> bool:
        """Say whether nothing is there, or an empty directory."""
        if not os.path.lexists(self._path):
            return True
        return self._path.is_dir() and not any(self._path.iterdir())

    def build(self, staging: Path) -> None:
        """Make the directory at ``staging``, on the same file system, and rename it into place."""
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir()
        try:
            with beneath.directory(staging) as root_fd:
                for entry in self._manifest.files:
                    self._place(root_fd, entry)
            # POSIX lets a directory replace an empty one, which output may be.
            staging.rename(self._path)
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def _place(self, root_fd: int, entry: FileEntry) -> None:
        """Put one file there, over whatever has its name."""
        with beneath.parent(root_fd, entry.path, make=True) as (fd, name):
            temporary = f".dreamer-new-{entry.digest.hex()}"
            with suppress(FileNotFoundError):
                os.unlink(temporary, dir_fd=fd)
            _share(self._files.path(entry.digest), fd, temporary)
            os.replace(temporary, name, src_dir_fd=fd, dst_dir_fd=fd)

    def differing(self, thorough: bool) -> Iterator[FileEntry]:
        """Yield the files that are not there as the manifest says.

        A file that is neither the stored one nor an untouched copy counts as the same only if
        ``thorough`` hashing proves it.
        """
        if not self._path.is_dir():
            yield from self._manifest.files
            return
        with beneath.directory(self._path) as root_fd:
            for entry in self._manifest.files:
                if not self._same(root_fd, entry, thorough):
                    yield entry

    def _same(self, root_fd: int, entry: FileEntry, thorough: bool) -> bool:
        found = beneath.lstat(root_fd, entry.path)
        if found is None or not stat.S_ISREG(found.st_mode) or found.st_size != entry.size_bytes:
            return False
        try:
            stored = self._files.path(entry.digest).lstat()
        except FileNotFoundError:
            stored = None
        # A hard link is the stored file; a copy was given its very time.
        if stored is not None and (
            os.path.samestat(found, stored) or stamp_of(found) == stamp_of(stored)
        ):
            return True
        return thorough and self._hashes_to(root_fd, entry)

    def _hashes_to(self, root_fd: int, entry: FileEntry) -> bool:
        with beneath.file(root_fd, entry.path, os.O_RDONLY) as fd:
            return hash_file(fd, threading.Event()) == entry.digest

    def repair(self) -> None:
        """Put right every file that differs; what else is in the directory stays."""
        # A list first: repairing changes what the comparison looks at.
        for entry in list(self.differing(thorough=True)):
            with beneath.directory(self._path) as root_fd:
                self._place(root_fd, entry)

    def remove(self) -> None:
        """Remove what the store put there; what its user changed or added stays."""
        # Not thorough: a file is removed only if it is plainly ours.
        differing = {entry.path for entry in self.differing(thorough=False)}
        with beneath.directory(self._path) as root_fd:
            for entry in self._manifest.files:
                if entry.path not in differing:
                    with beneath.parent(root_fd, entry.path) as (fd, name):
                        os.unlink(name, dir_fd=fd)
        # The deepest first, or none would be empty.
        for place in sorted(self._directories(), key=lambda path: -len(path.parts)):
            _remove_if_empty(place)

    def _directories(self) -> set[Path]:
        inner = (self._path / entry.path for entry in self._manifest.files)
        return {
            place for path in inner for place in path.parents if place.is_relative_to(self._path)
        }


def _share(stored: Path, directory_fd: int, name: str) -> None:
    """Make ``name`` a file with the bytes of ``stored``: linked if possible, else copied."""
    try:
        os.link(stored, name, dst_dir_fd=directory_fd, follow_symlinks=False)
    except OSError:
        # Another file system, or one without hard links; if it is full, copying says so.
        _copy(stored, directory_fd, name)


def _copy(stored: Path, directory_fd: int, name: str) -> None:
    flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
    with (
        beneath.opened(os.open(stored, os.O_RDONLY | os.O_NOFOLLOW)) as source,
        beneath.opened(os.open(name, flags, READ_ONLY, dir_fd=directory_fd)) as target,
    ):
        copy(source, target)
        status = os.fstat(source)
        os.fsync(target)
        # Size and time together tell an untouched copy later, without hashing it again.
        os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))


def _remove_if_empty(place: Path) -> None:
    try:
        place.rmdir()
    except OSError:
        # It holds something that is its user's.
        return
