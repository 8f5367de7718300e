"""Files hashed while they come in: the digest is right whatever the order, and read only once."""

import functools
import os
import random
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from dreamer.daemon.store import trailing
from dreamer.daemon.store.copying import fill
from dreamer.daemon.store.download import Download
from dreamer.daemon.store.store import Store
from dreamer.daemon.store.trailing import TrailingHashes
from dreamer.protocol.content.layout import Layout
from dreamer.protocol.errors import DiskError, StoppedError
from dreamer.protocol.limits import TRAIL_BLOCKS

BLOCK = 256
SIZES = (5 * BLOCK, 0, 40 * BLOCK + 17, 64 * BLOCK)
LONG = 2
"""The file that the tests follow."""


class ByHand(Executor):
    """Does what it is given when it is told to."""

    def __init__(self) -> None:
        self.given: list[tuple[Future[Any], Callable[[], Any]]] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        self.given.append((future, functools.partial(fn, *args, **kwargs)))
        return future

    def work(self) -> None:
        """Do it now."""
        while self.given:
            future, call = self.given.pop(0)
            if future.set_running_or_notify_cancel():
                try:
                    future.set_result(call())
                except Exception as error:
                    future.set_exception(error)


class Incoming:
    """Files of a model that are written block by block."""

    def __init__(self, directory: Path, thread: Executor) -> None:
        self.layout = Layout(SIZES, BLOCK)
        self.data = [random.Random(size).randbytes(size) for size in SIZES]
        self.paths = [directory / str(index) for index in range(len(SIZES))]
        for path, size in zip(self.paths, SIZES, strict=True):
            path.write_bytes(b"")
            with path.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, max(size, 1))
                file.truncate(size)
        self.present = 0
        self.followed = TrailingHashes(self.layout, self.open, thread)

    def open(self, index: int) -> int:
        return os.open(self.paths[index], os.O_RDWR)

    def write(self, block: int) -> None:
        span = self.layout.span(block)
        with self.paths[span.file_index].open("r+b") as file:
            file.seek(span.offset)
            file.write(self.data[span.file_index][span.offset : span.offset + span.length])
        self.present |= 1 << block

    def land(self, block: int) -> None:
        self.write(block)
        self.followed.landed(block, self.present)

    def digest(self, index: int, path: Path | None = None) -> bytes:
        fd = os.open(path or self.paths[index], os.O_RDWR)
        try:
            return bytes(self.followed.digest(index, fd, threading.Event()))
        finally:
            os.close(fd)

    def right(self, index: int) -> bytes:
        return blake3(self.data[index]).digest()

    def zero(self, size: int) -> None:
        """Write zeros over the beginning of the long file."""
        with self.paths[LONG].open("r+b") as file:
            file.write(bytes(size))


@pytest.fixture
def thread() -> ByHand:
    return ByHand()


@pytest.fixture
def incoming(tmp_path: Path, thread: ByHand) -> Iterator[Incoming]:
    files = Incoming(tmp_path, thread)
    yield files
    files.followed.close()


@pytest.mark.parametrize("seed", range(8))
def test_digest_is_right_in_whatever_order_blocks_land(tmp_path: Path, seed: int) -> None:
    incoming = Incoming(tmp_path, ThreadPoolExecutor(1))
    blocks = list(range(incoming.layout.block_count))
    if seed:
        random.Random(seed).shuffle(blocks)

    for block in blocks:
        incoming.land(block)

    assert [incoming.digest(index) for index in range(len(SIZES))] == [
        incoming.right(index) for index in range(len(SIZES))
    ]
    incoming.followed.close()


def test_what_was_followed_is_not_read_again(incoming: Incoming, thread: ByHand) -> None:
    for block in incoming.layout.blocks_of_file(LONG):
        incoming.land(block)
    thread.work()

    # Only what is read now can be wrong.
    incoming.zero(40 // TRAIL_BLOCKS * TRAIL_BLOCKS * BLOCK)

    assert incoming.digest(LONG) == incoming.right(LONG)


def test_file_that_was_here_in_part_is_followed_from_its_beginning(
    incoming: Incoming, thread: ByHand
) -> None:
    blocks = incoming.layout.blocks_of_file(LONG)
    for block in blocks[:30]:
        incoming.write(block)
    for block in blocks[30:]:
        incoming.land(block)
    thread.work()
    incoming.zero(30 * BLOCK)

    assert incoming.digest(LONG) == incoming.right(LONG)


def test_nobody_waits_for_a_thread_that_has_not_begun(incoming: Incoming, thread: ByHand) -> None:
    for block in incoming.layout.blocks_of_file(LONG):
        incoming.land(block)
    assert thread.given

    assert incoming.digest(LONG) == incoming.right(LONG)


def test_thread_leaves_a_file_that_somebody_waits_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, waited_for = threading.Event(), threading.Event()
    reads: list[int] = []

    class Waited(Future[Any]):
        def result(self, timeout: float | None = None) -> Any:
            waited_for.set()
            return super().result(timeout)

    class Aside(ByHand):
        def submit(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Future[Any]:
            future = Waited()
            self.given.append((future, functools.partial(fn, *args, **kwargs)))
            threading.Thread(target=self.work).start()
            return future

    def read_slowly(fd: int, buffer: memoryview, offset: int) -> int:
        reads.append(offset)
        begun.set()
        assert waited_for.wait(30)
        return fill(fd, buffer, offset)

    monkeypatch.setattr(trailing, "fill", read_slowly)
    incoming = Incoming(tmp_path, Aside())
    for block in incoming.layout.blocks_of_file(LONG):
        incoming.land(block)
    assert begun.wait(30)

    assert incoming.digest(LONG) == incoming.right(LONG)
    assert reads == [0]


def test_stop_ends_the_rest(incoming: Incoming) -> None:
    for block in incoming.layout.blocks_of_file(LONG):
        incoming.land(block)
    stop = threading.Event()
    stop.set()
    fd = incoming.open(LONG)

    with pytest.raises(StoppedError):
        incoming.followed.digest(LONG, fd, stop)
    os.close(fd)


def test_file_that_was_exchanged_is_read_again(incoming: Incoming, thread: ByHand) -> None:
    for block in incoming.layout.blocks_of_file(LONG):
        incoming.land(block)
    thread.work()
    other = incoming.paths[LONG].with_suffix(".other")
    other.write_bytes(bytes(SIZES[LONG]))

    assert incoming.digest(LONG, other) == blake3(bytes(SIZES[LONG])).digest()


def test_file_that_was_cut_and_filled_again_is_read_again(
    incoming: Incoming, thread: ByHand
) -> None:
    blocks = incoming.layout.blocks_of_file(LONG)
    for block in blocks[:-1]:
        incoming.land(block)
    thread.work()
    # So large a hole that no file system keeps it as zeros.
    os.truncate(incoming.paths[LONG], 0)
    os.truncate(incoming.paths[LONG], SIZES[LONG])

    incoming.land(blocks[-1])

    assert incoming.digest(LONG) == blake3(incoming.paths[LONG].read_bytes()).digest()


def test_file_that_could_not_be_followed_is_read_as_a_whole(
    incoming: Incoming, thread: ByHand
) -> None:
    blocks = incoming.layout.blocks_of_file(LONG)
    away = incoming.paths[LONG].with_suffix(".away")
    for block in blocks:
        incoming.write(block)
    incoming.paths[LONG].rename(away)

    for block in blocks:
        incoming.followed.landed(block, incoming.present)
    thread.work()

    assert incoming.digest(LONG, away) == incoming.right(LONG)


def test_short_file_is_not_followed(incoming: Incoming, thread: ByHand) -> None:
    for block in incoming.layout.blocks_of_file(0):
        incoming.land(block)

    assert incoming.digest(0) == incoming.right(0)
    assert not thread.given


def test_block_that_lands_twice_or_too_late_changes_nothing(
    incoming: Incoming, thread: ByHand
) -> None:
    blocks = incoming.layout.blocks_of_file(LONG)
    for block in (*blocks, *blocks[:20]):
        incoming.land(block)
    thread.work()
    assert incoming.digest(LONG) == incoming.right(LONG)

    for block in blocks:
        incoming.land(block)

    assert not thread.given


def test_download_that_lost_what_was_hashed_says_so(
    store: Store, elsewhere: Callable[..., Any]
) -> None:
    size = (2 * TRAIL_BLOCKS + 1) * 1024 * 1024
    model = elsewhere({"weights.bin": random.Random(1).randbytes(size)})
    model.give(store)
    download: Download = store.open_download(
        model.manifest, model.outboard, lambda done, total: None, threading.Event()
    )
    blocks = range(model.manifest.block_count)
    model.fill(download, iter(blocks))
    for block in blocks:
        download.landed(block, (1 << block) - 1)
    place = download.target(0)
    os.truncate(place.path, 0)
    os.truncate(place.path, size)

    with pytest.raises(DiskError, match="is not whole on disk"):
        download.finish_file(0)
    download.close()
