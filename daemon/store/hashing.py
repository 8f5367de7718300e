"""Hashing files at the speed of the disk: one thread reads, writes and hashes blocks, one the rest.

BLAKE3, reads and writes release the GIL, so the two threads take two cores.
"""

from __future__ import annotations

import itertools
import os
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from types import TracebackType

from blake3 import blake3

from dreamer.daemon.store import stopping
from dreamer.daemon.store.copying import fill, write_all
from dreamer.protocol.content.hashing import FileHasher, FileHashes, hash_blocks
from dreamer.protocol.ids import Digest
from dreamer.protocol.limits import STORE_READ_BYTES

OnBytes = Callable[[int], None]
"""Told how many more bytes have been dealt with."""


@dataclass(frozen=True)
class ContentHashes:
    """All the hashes of one file; ``blocks`` are joined."""

    size_bytes: int
    file: FileHashes
    blocks: bytes


class CopyHasher:
    """Hashes files, copying them on the way if asked to; a context manager for its thread."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(1, "dreamer-hash")
        self._buffers = [memoryview(bytearray(STORE_READ_BYTES)) for _ in range(2)]

    def __enter__(self) -> CopyHasher:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._thread.shutdown()

    def run(
        self,
        source_fd: int,
        target_fd: int | None,
        size_bytes: int,
        on_bytes: OnBytes,
        stop: threading.Event,
    ) -> ContentHashes:
        """Hash the first ``size_bytes`` of a file, or less if it ends before.

        Writes to ``target_fd`` the very bytes that were hashed.

        Raises:
            StoppedError: ``stop`` was set.
            OSError: the disk said no.
        """
        # Two buffers: one is being hashed as a file while the next is filled.
        hasher = FileHasher()
        blocks = bytearray()
        done = 0
        busy: list[Future[None] | None] = [None, None]
        for turn in itertools.cycle((0, 1)):
            _settle(busy[turn])
            stopping.check(stop)
            # A file that somebody keeps appending to would otherwise never end.
            buffer = self._buffers[turn][: size_bytes - done]
            data = buffer[: fill(source_fd, buffer, done)]
            if not data:
                break
            # One thread, so pieces are hashed in order.
            busy[turn] = self._thread.submit(hasher.update, data)
            if target_fd is not None:
                write_all(target_fd, data, done)
            blocks += hash_blocks(data)
            done += len(data)
            on_bytes(len(data))
        for future in busy:
            _settle(future)
        return ContentHashes(done, hasher.finish(), bytes(blocks))


def _settle(future: Future[None] | None) -> None:
    if future is not None:
        # Also brings up what went wrong in the other thread.
        future.result()


def hash_file(
    fd: int,
    stop: threading.Event,
    on_bytes: OnBytes = lambda count: None,
    hasher: blake3 | None = None,
    offset: int = 0,
) -> Digest:
    """Return the BLAKE3 of a whole file, of which ``hasher`` was given all before ``offset``.

    Reads instead of mapping: a mapped file that somebody truncates kills the process.

    Raises:
        StoppedError: ``stop`` was set.
        OSError: the disk said no.
    """
    # All cores: nobody who waits for a whole file has anything else to do meanwhile.
    hasher = hasher or blake3(max_threads=blake3.AUTO)
    buffer = memoryview(bytearray(STORE_READ_BYTES))
    while count := fill(fd, buffer, offset):
        stopping.check(stop)
        hasher.update(buffer[:count])
        offset += count
        on_bytes(count)
    return Digest(hasher.digest())


def flushing(fd: int, work: Callable[[], Digest]) -> Digest:
    """Return what ``work`` does while the disk takes what it has not written of a file yet.

    Raises OSError as the disk does, besides what ``work`` raises.
    """
    with ThreadPoolExecutor(1, "dreamer-flush") as thread:
        flushed = thread.submit(os.fsync, fd)
        digest = work()
        # An error of the disk is told once only: who comes later would not hear of it.
        flushed.result()
    return digest
