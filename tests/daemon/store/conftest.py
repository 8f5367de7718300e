"""A store on a temporary disk, and models to put into it."""

import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dreamer.daemon.state import State
from dreamer.daemon.store.download import Download
from dreamer.daemon.store.store import Store
from dreamer.protocol.content.manifest import Manifest
from dreamer.protocol.limits import BLOCK_BYTES

WriteModel = Callable[..., Path]


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    state = State(tmp_path / "state.db")
    yield state
    state.close()


@pytest.fixture
def store(tmp_path: Path, state: State) -> Iterator[Store]:
    store = Store(tmp_path / "models", state)
    yield store
    store.close()


@pytest.fixture
def stop() -> threading.Event:
    return threading.Event()


def noise(seed: int, size_bytes: int) -> bytes:
    return random.Random(seed).randbytes(size_bytes)


CONTENTS = {
    "config.json": b'{"layers": 2}',
    "empty.txt": b"",
    "sub/weights.safetensors": noise(1, 3 * BLOCK_BYTES + 77),
    "sub/deep/more.safetensors": noise(2, BLOCK_BYTES),
}


@pytest.fixture
def contents() -> dict[str, bytes]:
    return dict(CONTENTS)


@pytest.fixture
def write_model(tmp_path: Path) -> WriteModel:
    def write(contents: dict[str, bytes], name: str = "source") -> Path:
        root = tmp_path / name
        for path, data in contents.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_bytes(data)
        return root

    return write


class Elsewhere:
    """Another node that holds a model: hands out its manifest, outboard and blocks."""

    def __init__(self, store: Store, manifest: Manifest) -> None:
        self.store = store
        self.manifest = manifest
        outboard = store.outboard(manifest)
        assert outboard is not None
        self.outboard = outboard

    def block(self, block: int) -> bytes:
        location = self.store.locate(self.manifest, block)
        assert location is not None
        with location.path.open("rb") as file:
            file.seek(location.offset)
            return file.read(location.length)

    def give(self, store: Store) -> None:
        for digest in (self.manifest.outboard, self.manifest.id):
            data = self.store.get_object(digest)
            assert data is not None
            store.put_object(digest, data)

    def fill(self, download: Download, blocks: Iterator[int] | range | None = None) -> None:
        for block in blocks if blocks is not None else range(self.manifest.block_count):
            download.write(block, self.block(block))


@pytest.fixture
def elsewhere(tmp_path: Path, write_model: WriteModel) -> Iterator[Callable[..., Elsewhere]]:
    """Make another node's copy of some contents."""
    state = State(tmp_path / "elsewhere.db")
    store = Store(tmp_path / "elsewhere", state)

    def make(contents: dict[str, bytes], name: str = "elsewhere-source") -> Elsewhere:
        source = write_model(contents, name)
        _, manifest = store.ingest(source, lambda done, total: None, threading.Event())
        return Elsewhere(store, manifest)

    yield make
    store.close()
    state.close()
