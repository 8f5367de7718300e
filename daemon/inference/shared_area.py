"""An unnamed file in memory that a pool and its worker both have open, for large tensors.

One side writes into it, the other only reads. Nobody else can open it, it has no name that could
be left behind, and it is gone with the last process that has it. The reader uses ``pread`` or maps
single regions, so a file that the other side cut short gives an error, or kills the worker, and
never the daemon.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence

from dreamer.daemon.inference.tensors import Data
from dreamer.protocol.errors import LocalProtocolError
from dreamer.protocol.inference_limits import (
    TENSORS_SHARED_KEPT_BYTES,
    TENSORS_SHARED_MAX_BYTES,
)

PAGE_BYTES = 65_536
"""Regions begin at multiples of this, which every system can map from."""
ALIGNMENT_BYTES = 64
"""Parts of a region begin at multiples of this, which processors like best."""


def open_area() -> int:
    """Return a file descriptor of a new, empty area, to be inherited by a worker."""
    if hasattr(os, "memfd_create"):
        return os.memfd_create("dreamer-tensors", os.MFD_CLOEXEC)
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def places(sizes: Sequence[int]) -> tuple[list[int], int]:
    """Return where in a region parts of these sizes begin, and where the last byte ends."""
    starts, place, end = [], 0, 0
    for size in sizes:
        starts.append(place)
        end = place + size if size else end
        place += -(-size // ALIGNMENT_BYTES) * ALIGNMENT_BYTES
    return starts, end


class Regions:
    """What is in use of an area; pure bookkeeping. Offsets and sizes in bytes."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._sizes: dict[int, int] = {}

    def reserve(self, size_bytes: int) -> int | None:
        """Return the offset of the first gap that is large enough; None while there is none."""
        size_bytes = -(-size_bytes // PAGE_BYTES) * PAGE_BYTES
        start = 0
        for offset in sorted(self._sizes):
            if offset - start >= size_bytes:
                break
            start = offset + self._sizes[offset]
        if start + size_bytes > self._limit_bytes:
            return None
        self._sizes[start] = size_bytes
        return start

    def release(self, offset: int) -> None:
        """Let others have a region."""
        del self._sizes[offset]

    def __len__(self) -> int:
        return len(self._sizes)


class WrittenArea:
    """The writer's side: hands out regions and fills them."""

    def __init__(self, fd: int, limit_bytes: int = TENSORS_SHARED_MAX_BYTES) -> None:
        self._fd = fd
        self._regions = Regions(limit_bytes)

    def reserve(self, size_bytes: int) -> int | None:
        """Return the offset of a region of that size, None while there is no room."""
        return self._regions.reserve(size_bytes)

    def write(self, offset: int, parts: Sequence[Data]) -> None:
        """Write the parts of a region. Blocks for about a second per 4 GiB."""
        views = [memoryview(part).cast("B") for part in parts]
        starts, _ = places([view.nbytes for view in views])
        for start, view in zip(starts, views, strict=True):
            _write(self._fd, offset + start, view)

    def release(self, offset: int) -> None:
        """Have a region used again; its reader is done with it.

        With the last one, what is more than a little goes back to the system.
        """
        self._regions.release(offset)
        if not self._regions and os.fstat(self._fd).st_size > TENSORS_SHARED_KEPT_BYTES:
            os.ftruncate(self._fd, TENSORS_SHARED_KEPT_BYTES)


def read_region(fd: int, offset: int, sizes: list[int]) -> list[bytes]:
    """Return a copy of the parts of a region.

    Raises:
        LocalProtocolError: the region is not all there: the other side is broken.
    """
    starts, _ = places(sizes)
    return [_read(fd, offset + start, size) for start, size in zip(starts, sizes, strict=True)]


def _write(fd: int, offset: int, view: memoryview) -> None:
    while view:
        written = os.pwrite(fd, view, offset)
        offset, view = offset + written, view[written:]


def _read(fd: int, offset: int, size: int) -> bytes:
    # One call as a rule: Linux stops at 2 GiB, and a memory file is never interrupted half-way.
    data = os.pread(fd, size, offset)
    if len(data) != size:
        raise LocalProtocolError("a worker's tensors end before their time")
    return data
