"""The files in which tensors lie on their way between members."""

from __future__ import annotations

import errno
import mmap
import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from blake3 import blake3

from dreamer.daemon.inference.tensors import Data
from dreamer.protocol.errors import BusyError, DiskError
from dreamer.protocol.limits import BLOCK_BYTES
from dreamer.protocol.offload_limits import OFFLOAD_PAYLOADS_MAX_BYTES


class PayloadFolder:
    """Where payloads lie while they are on their way, for all rooms; emptied at the start."""

    def __init__(self, path: Path, limit_bytes: int = OFFLOAD_PAYLOADS_MAX_BYTES) -> None:
        self._path = path
        self._limit_bytes = limit_bytes
        self._held: dict[Path, int] = {}
        if path.is_dir():
            for left in path.iterdir():
                if not left.is_dir():
                    left.unlink(missing_ok=True)

    def create(self, size_bytes: int) -> Path:
        """Return a new file of its own for so many bytes.

        Raises:
            BusyError: too much is on its way already.
            DiskError: the disk is full or read-only.
        """
        if sum(self._held.values()) + size_bytes > self._limit_bytes:
            raise BusyError("this node moves as many tensors as it takes: try again later")
        try:
            self._path.mkdir(mode=0o700, exist_ok=True)
            descriptor, name = tempfile.mkstemp(dir=self._path)
            os.close(descriptor)
        except OSError as error:
            raise disk_error(error) from error
        self._held[Path(name)] = size_bytes
        return Path(name)

    def remove(self, path: Path) -> None:
        """Forget a file."""
        self._held.pop(path, None)
        path.unlink(missing_ok=True)


def write(path: Path, parts: Sequence[Data]) -> bytes:
    """Write the parts one after another; return the BLAKE3 of each block."""
    digests, block, room = bytearray(), blake3(), BLOCK_BYTES
    with path.open("wb", buffering=0) as file:
        for part in parts:
            view = memoryview(part).cast("B")
            while view:
                piece, view = view[:room], view[room:]
                file.write(piece)
                block.update(piece)
                room -= piece.nbytes
                if not room:
                    digests += block.digest()
                    block, room = blake3(), BLOCK_BYTES
    if room < BLOCK_BYTES:
        digests += block.digest()
    return bytes(digests)


def allocate(path: Path, size_bytes: int) -> None:
    """Give a file its size.

    Raises:
        OSError: the disk is full.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        # So that a full disk is noticed now; not every file system can.
        if hasattr(os, "posix_fallocate"):
            with _unless_full():
                os.posix_fallocate(descriptor, 0, size_bytes)
        os.ftruncate(descriptor, size_bytes)
    finally:
        os.close(descriptor)


@contextmanager
def _unless_full() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise


def mapped(path: Path) -> memoryview:
    """Return what a file holds; it may be unlinked after that."""
    with path.open("rb") as file:
        return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))


def disk_error(error: OSError) -> DiskError:
    """Return the error to tell of when a payload can't be kept."""
    return DiskError(
        f"tensors can't be written down ({error.strerror})", "make room on the disk of DREAMER_HOME"
    )
