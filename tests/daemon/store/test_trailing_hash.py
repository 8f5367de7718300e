"""Files hashed while they come in: the digest is right whatever the order, and read only once."""

import os
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

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


class Incoming:
    """Files of a model that are written block by block."""

    def __init__(self, directory: Path) -> None:
        self.layout = Layout(SIZES, BLOCK)
        self.data = [random.Random(size).randbytes(size) for size in SIZES]
        self.paths = [directory / str(index) for index in range(len(SIZES))]
        for path, size in zip(self.paths, SIZES, strict=True):
            path.write_bytes(b"")
            with path.open("r+b") as file:
                os.posix_fallocate(file.fileno(), 0, max(size, 1))
                file.truncate(size)
        self.present = 0
        self.opened = 0
        self.followed = TrailingHashes(self.layout, self.open)

    def open(self, index: int) -> int:
        self.opened += 1
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


@contextmanager
def coming_in(directory: Path) -> Iterator[Incoming]:
    incoming = Incoming(directory)
    try:
        yield incoming
    finally:
        incoming.followed.close()


@pytest.fixture
def incoming(tmp_path: Path) -> Iterator[Incoming]:
    with coming_in(tmp_path) as files:
        yield files


@pytest.mark.parametrize("seed", range(8))
def test_digest_is_right_in_whatever_order_blocks_land(incoming: Incoming, seed: int) -> None:
    blocks = list(range(incoming.layout.block_count))
    if seed:
        random.Random(seed).shuffle(blocks)

    for block in blocks:
        incoming.land(block)

    assert [incoming.digest(index) for index in range(len(SIZES))] == [
        incoming.right(index) for index in range(len(SIZES))
    ]


def test_what_was_followed_is_not_read_again(incoming: Incoming, tmp_path: Path) -> None:
    for block in incoming.layout.blocks_of_file(LONG):
        incoming.land(block)

    # Another file in its place: only what is read now can be wrong.
    followed = 40 // TRAIL_BLOCKS * TRAIL_BLOCKS * BLOCK
    other = tmp_path / "other"
    other.write_bytes(bytes(followed) + incoming.data[LONG][followed:])

    assert incoming.digest(LONG, other) == incoming.right(LONG)


def test_file_that_was_here_in_part_is_followed_from_its_beginning(
    incoming: Incoming, tmp_path: Path
) -> None:
    blocks = incoming.layout.blocks_of_file(LONG)
    for block in blocks[:30]:
        incoming.write(block)
    for block in blocks[30:]:
        incoming.land(block)
    other = tmp_path / "other"
    other.write_bytes(bytes(30 * BLOCK) + incoming.data[LONG][30 * BLOCK :])

    assert incoming.digest(LONG, other) == incoming.right(LONG)


def test_file_that_was_cut_and_filled_again_is_read_again(incoming: Incoming) -> None:
    blocks = incoming.layout.blocks_of_file(LONG)
    for block in blocks[:-1]:
        incoming.land(block)
    # So large a hole that no file system keeps it as zeros.
    os.truncate(incoming.paths[LONG], 0)
    os.truncate(incoming.paths[LONG], SIZES[LONG])

    incoming.land(blocks[-1])

    assert incoming.digest(LONG) == blake3(incoming.paths[LONG].read_bytes()).digest()


def test_file_that_could_not_be_followed_is_read_as_a_whole(incoming: Incoming) -> None:
    blocks = incoming.layout.blocks_of_file(LONG)
    away = incoming.paths[LONG].with_suffix(".away")
    for block in blocks:
        incoming.write(block)
    incoming.paths[LONG].rename(away)

    for block in blocks:
        incoming.followed.landed(block, incoming.present)

    assert incoming.digest(LONG, away) == incoming.right(LONG)


def test_short_file_is_not_followed(incoming: Incoming) -> None:
    for block in incoming.layout.blocks_of_file(0):
        incoming.land(block)

    assert incoming.digest(0) == incoming.right(0)
    assert incoming.opened == 0


def test_stop_ends_the_rest(incoming: Incoming) -> None:
    for block in incoming.layout.blocks_of_file(LONG):
        incoming.land(block)
    stop = threading.Event()
    stop.set()
    fd = incoming.open(LONG)

    with pytest.raises(StoppedError):
        incoming.followed.digest(LONG, fd, stop)
    os.close(fd)


def test_block_that_lands_twice_or_too_late_changes_nothing(incoming: Incoming) -> None:
    blocks = incoming.layout.blocks_of_file(LONG)
    for block in (*blocks, *blocks[:20]):
        incoming.land(block)
    assert incoming.digest(LONG) == incoming.right(LONG)
    opened = incoming.opened

    for block in blocks:
        incoming.land(block)
    incoming.followed.close()

    assert incoming.opened == opened


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
