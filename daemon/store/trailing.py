"""Hashes of files that are still coming in, made behind their blocks as these land.

When the last block of a model is here, only the last few are left to be hashed: a model that is
larger than the memory isn't read from the disk once more. A file's beginning is followed as far as
it is whole. (Having the disk begin to write it at the same time made pulls slower, not faster.)
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from blake3 import blake3

from dreamer.daemon.store import beneath
from dreamer.daemon.store.copying import fill
from dreamer.daemon.store.hashing import hash_file
from dreamer.daemon.store.space import allocated_bytes
from dreamer.protocol.content.layout import Layout
from dreamer.protocol.ids import Digest
from dreamer.protocol.limits import STORE_READ_BYTES, TRAIL_BLOCKS
from dreamer.protocol.swarm import bitfield


@dataclass
class _Trail:
    """One file, of the blocks ``first`` to ``last``; those before ``next`` have landed."""

    first: int
    last: int
    next: int
    ahead: set[int] = field(default_factory=set)
    """Blocks that landed before one that is nearer to the beginning."""
    hashed: int = 0
    """How many bytes from the beginning the hasher was given."""
    hasher: blake3 = field(default_factory=lambda: blake3(max_threads=blake3.AUTO))
    job: Future[None] | None = None
    taken: threading.Event = field(default_factory=threading.Event)
    """Set once the thread is to leave the rest to whoever waits for the hash."""
    file: tuple[int, int] | None = None
    """Device and number of the file that was read."""


class TrailingHashes:
    """Of the files of one download; ``landed`` may be called by one thread, ``digest`` by any."""

    def __init__(
        self, layout: Layout, open_file: Callable[[int], int], thread: Executor | None = None
    ) -> None:
        """``open_file`` opens a file that is coming in by its index, for the caller to close.

        ``thread`` does one thing after another; shut down at the end.
        """
        self._layout = layout
        self._open = open_file
        self._trails: dict[int, _Trail] = {}
        self._ended: set[int] = set()
        self._closed = threading.Event()
        # Guards what the two threads share of a trail: its job, how far it is to go.
        self._lock = threading.Lock()
        self._thread = thread or ThreadPoolExecutor(1, "dreamer-trail")
        self._buffer = memoryview(bytearray(STORE_READ_BYTES))

    def landed(self, block: int, present: int) -> None:
        """Note that a verified block is in its file, besides those of the set ``present``."""
        index = self._layout.file_of(block)
        if index in self._ended or self._closed.is_set():
            return
        with self._lock:
            trail = self._trails.get(index) or self._begun(index, present)
            trail.ahead.add(block)
            # The last one is left out: it may be short, and the end is hashed by itself anyway.
            while trail.next in trail.ahead and trail.next < trail.last:
                trail.ahead.discard(trail.next)
                trail.next += 1
            if trail.job is None and self._due(trail) is not None:
                trail.job = self._thread.submit(self._follow, index, trail)

    def _begun(self, index: int, present: int) -> _Trail:
        blocks = self._layout.blocks_of_file(index)
        here = present >> blocks.start & bitfield.full(len(blocks))
        trail = self._trails[index] = _Trail(blocks.start, blocks.stop - 1, blocks.start)
        trail.ahead.update(blocks.start + each for each in bitfield.members(here))
        return trail

    def _due(self, trail: _Trail) -> int | None:
        """Return how many bytes from the beginning are to be hashed now, None if too few."""
        whole = (trail.next - trail.first) // TRAIL_BLOCKS * TRAIL_BLOCKS * self._layout.block_bytes
        return whole if whole > trail.hashed else None

    def _follow(self, index: int, trail: _Trail) -> None:
        with beneath.opened(self._open(index)) as fd:
            trail.file = _identity(os.fstat(fd))
            while (end := self._next_step(trail)) is not None:
                while trail.hashed < end:
                    if trail.taken.is_set() or self._closed.is_set():
                        return
                    trail.hashed += self._hash_some(fd, trail, end)

    def _hash_some(self, fd: int, trail: _Trail, end: int) -> int:
        count = fill(fd, self._buffer[: end - trail.hashed], trail.hashed)
        if count == 0:
            raise OSError("the file is shorter than what was written to it")
        trail.hasher.update(self._buffer[:count])
        return count

    def _next_step(self, trail: _Trail) -> int | None:
        with self._lock:
            if self._due(trail) is None:
                trail.job = None
                return None
            return trail.hashed + TRAIL_BLOCKS * self._layout.block_bytes

    def digest(self, index: int, fd: int, stop: threading.Event) -> Digest:
        """Return the BLAKE3 of a file whose blocks have all landed; ``fd`` is open on it.

        Raises:
            StoppedError: ``stop`` was set.
            OSError: the disk said no.
        """
        self._ended.add(index)
        with self._lock:
            trail = self._trails.pop(index, None)
            job = trail.job if trail else None
        if trail is None:
            return hash_file(fd, stop)
        # What the thread has not hashed yet is hashed here, where ``stop`` is looked at.
        trail.taken.set()
        if not _followed(job) or not _kept(fd, trail):
            return hash_file(fd, stop)
        return hash_file(fd, stop, hasher=trail.hasher, offset=trail.hashed)

    def close(self) -> None:
        """End what is under way."""
        self._closed.set()
        self._thread.shutdown(cancel_futures=True)


def _followed(job: Future[None] | None) -> bool:
    """Have the thread leave a file; return whether what it did can be built upon."""
    # It may have others to hash first.
    if job is None or job.cancel():
        return True
    try:
        job.result()
    except OSError:
        # Whatever it met, hashing all of the file meets it too, and says so.
        return False
    return True


def _kept(fd: int, trail: _Trail) -> bool:
    """Return whether what was hashed is still there: the file may have been cut or exchanged."""
    status = os.fstat(fd)
    same = not trail.hashed or trail.file == _identity(status)
    return same and trail.hashed <= status.st_size <= allocated_bytes(status)


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
