"""The files of one model on their way in: preallocated, written in place, block by block.

The bytes on disk are the only record of progress. After a crash they are hashed again, so no
bitmap can claim what was never written.
"""

from __future__ import annotations

import errno
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from dreamer.daemon.store import beneath, fresh, space, stopping
from dreamer.daemon.store.copying import fill, preallocate
from dreamer.daemon.store.places import Location
from dreamer.protocol.content.manifest import FileEntry, Manifest
from dreamer.protocol.content.outboard import Outboard
from dreamer.protocol.ids import Digest
from dreamer.protocol.limits import BLOCK_BYTES

_FLAGS = os.O_RDWR | os.O_NOFOLLOW


class PartialFiles:
    """The directory of partial files of one model. Methods raise OSError as the disk does."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def path(self, digest: Digest) -> Path:
        """Return where the partial file of ``digest`` is, or would be."""
        return self.directory / digest.hex()

    def status(self, digest: Digest) -> os.stat_result | None:
        """Return the status of a partial file, None if it is not there."""
        try:
            return fresh.lstat(self.path(digest))
        except FileNotFoundError:
            return None

    def make(self, entry: FileEntry) -> None:
        """Make a partial file of the right size, keeping what is in one that is there."""
        self.directory.mkdir(exist_ok=True)
        # Not O_EXCL: what an earlier attempt left is what a download resumes from.
        with beneath.opened(os.open(self.path(entry.digest), _FLAGS | os.O_CREAT, 0o600)) as fd:
            preallocate(fd, entry.size_bytes)

    def open(self, digest: Digest) -> int:
        """Open a partial file for reading and writing; the caller closes it."""
        return os.open(self.path(digest), _FLAGS)

    def has_lost(self, place: Location, file_bytes: int) -> bool:
        """Say whether the bytes at ``place``, once written, are no longer in the file.

        Somebody cut it short, or made it anew; what was reserved and not written is no data.
        """
        try:
            status = place.path.lstat()
            if status.st_size == file_bytes <= space.allocated_bytes(status):
                return False
            with beneath.opened(os.open(place.path, os.O_RDONLY | os.O_NOFOLLOW)) as fd:
                # Where nothing could be reserved, or zeros take no room, only this tells.
                return os.lseek(fd, place.offset, os.SEEK_DATA) != place.offset or (
                    os.lseek(fd, place.offset, os.SEEK_HOLE) < place.offset + place.length
                )
        except OSError:
            return True

    def discard(self, digest: Digest) -> None:
        """Remove a partial file if it is there."""
        self.path(digest).unlink(missing_ok=True)

    def remove(self) -> int:
        """Remove the directory and all that is in it; return the room that this freed."""
        if not self.directory.is_dir():
            return 0
        freed = sum(space.allocated_bytes(path.lstat()) for path in self.directory.iterdir())
        shutil.rmtree(self.directory)
        return freed

    def tidy(self) -> None:
        """Remove the directory if nothing is left in it."""
        # Files for the next attempt are in it, or it was never made, or the disk refuses just now:
        # an empty directory harms nobody.
        with suppress(OSError):
            self.directory.rmdir()


def verified_blocks(
    fd: int, file_index: int, manifest: Manifest, outboard: Outboard, stop: threading.Event
) -> Iterator[int]:
    """Yield the blocks of a partial file that hold the right bytes; holes are not read.

    Raises:
        StoppedError: ``stop`` was set.
        OSError: the disk said no.
    """
    buffer = memoryview(bytearray(BLOCK_BYTES))
    first = manifest.layout.blocks_of_file(file_index).start
    for number in _written(fd, manifest.files[file_index].size_bytes):
        stopping.check(stop)
        block = first + number
        data = buffer[: manifest.layout.block_size(block)]
        if fill(fd, data, number * BLOCK_BYTES) == len(data) and outboard.matches(block, data):
            yield block


def _written(fd: int, size_bytes: int) -> Iterator[int]:
    """Yield the numbers of the file's blocks of which any byte was ever written."""
    following = 0
    offset = 0
    while offset < size_bytes:
        try:
            # Reserved but unwritten room counts as a hole, so a fresh partial costs no reading.
            start = os.lseek(fd, offset, os.SEEK_DATA)
        except OSError as error:
            # No more data up to the end of the file.
            if error.errno == errno.ENXIO:
                return
            raise
        offset = os.lseek(fd, start, os.SEEK_HOLE)
        stop = -(-min(offset, size_bytes) // BLOCK_BYTES)
        # Data may end and begin again within one block, which is still read once.
        yield from range(max(following, start // BLOCK_BYTES), stop)
        following = max(following, stop)
