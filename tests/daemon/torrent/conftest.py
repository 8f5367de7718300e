"""A model in a store, the torrent process, and stock libtorrent sessions to meet it."""

from __future__ import annotations

import asyncio
import random
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import libtorrent as lt
import pytest

from dreamer.daemon.state import State
from dreamer.daemon.store.store import Store
from dreamer.daemon.tasks import TaskSet
from dreamer.daemon.torrent.client import Torrents
from dreamer.daemon.torrent.links import stored_paths
from dreamer.daemon.torrent.publicity import Publicity
from dreamer.daemon.torrent.vocabulary import AddTorrent, Configure, TorrentEvent
from dreamer.daemon.transport.vocabulary import VerifiedSpan
from dreamer.protocol.content.torrent_layout import TorrentLayout

MIB = 2**20
PATIENCE_S = 50.0
FILES = {"a.bin": 5 * MIB + 17, "sub/b.bin": 3 * MIB, "empty": 0, "same.bin": 3 * MIB}
STOCK = {
    # Dialled before the other side has the torrent, it would wait a minute to try again.
    "min_reconnect_time": 1,
    "max_failcount": 100,
    "listen_interfaces": "127.0.0.1:0",
    "enable_dht": False,
    "enable_lsd": False,
    "enable_upnp": False,
    "enable_natpmp": False,
    "webtorrent_stun_server": "",
    "ssrf_mitigation": False,
    "allow_multiple_connections_per_ip": True,
    "ignore_limits_on_local_network": False,
}


async def until(happened: Callable[[], object]) -> None:
    """Wait until something has happened; fail when it takes too long."""
    async with asyncio.timeout(PATIENCE_S):
        while not happened():
            await asyncio.sleep(0.01)


class Model:
    """A model of a few files, stored, and its torrent."""

    def __init__(self, root: Path) -> None:
        rng = random.Random(7)
        self.source = root / "source"
        for path, size in FILES.items():
            place = self.source / path
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(rng.randbytes(size))
        (self.source / "same.bin").write_bytes((self.source / "sub" / "b.bin").read_bytes())
        self.state = State(root / "state.db")
        self.store = Store(root / "models", self.state)
        stop = threading.Event()
        _, self.manifest = self.store.ingest(self.source, lambda done, total: None, stop)
        self.outboard = self.store.outboard(self.manifest)
        self.layout = TorrentLayout(self.manifest)
        self.metadata = Publicity(self.store).make(self.manifest, lambda done, total: None, stop)

    def command(self, number: int, **changed: object) -> AddTorrent:
        """Return what seeds it from the store."""
        wanted: dict[str, object] = {
            "torrent": number,
            "metadata": self.metadata.object_bytes,
            "trackers": [],
            "folder": str(self.store.root),
            "paths": stored_paths(self.layout, self.store),
            "piece_count": self.layout.piece_count,
            "have": b"",
        }
        return AddTorrent(**{**wanted, **changed})

    def close(self) -> None:
        self.store.close()
        self.state.close()


@pytest.fixture(scope="session")
def model(tmp_path_factory) -> Iterator[Model]:
    made = Model(tmp_path_factory.mktemp("model"))
    yield made
    made.close()


class Running:
    """Our torrent process, and what it said."""

    def __init__(self, configure: Configure) -> None:
        self.tasks = TaskSet()
        self.torrents = Torrents(configure, self.tasks)
        self.events: list[TorrentEvent] = []

    def add(self, command: AddTorrent) -> int:
        self.torrents.add(command, self.events.append)
        return command.torrent

    def said(self, kind: type) -> list:
        return [event for event in self.events if isinstance(event, kind)]

    async def port(self) -> int:
        await until(lambda: self.torrents.port)
        return self.torrents.port


@pytest.fixture
async def running() -> AsyncIterator[Running]:
    made = Running(Configure("127.0.0.1:0", "Dreamer/test", True, False, ""))
    yield made
    await made.torrents.close()
    await made.tasks.close()


class Stock:
    """A stock libtorrent session with the model's torrent, in ``folder``."""

    def __init__(self, metadata: bytes, folder: Path, **settings: object) -> None:
        self.session = lt.session({**STOCK, **settings})
        wanted = lt.load_torrent_buffer(metadata)
        wanted.save_path = str(folder)
        wanted.flags = lt.torrent_flags.update_subscribe
        self.handle = self.session.add_torrent(wanted)

    @property
    def has_all(self) -> bool:
        return self.handle.status().is_seeding

    @property
    def up_bytes(self) -> int:
        return self.handle.status().total_payload_upload

    def meet(self, port: int) -> None:
        self.handle.connect_peer(("127.0.0.1", port))


@pytest.fixture
def stock(model, tmp_path) -> Iterator[Callable[..., Stock]]:
    """``stock()`` starts a client without the model, ``stock(seeds=True)`` one that has it."""
    made: list[Stock] = []

    def start(seeds: bool = False, metadata: bytes = b"", **settings: object) -> Stock:
        folder = tmp_path / f"stock{len(made)}"
        folder.mkdir()
        if seeds:
            (folder / model.layout.name).symlink_to(model.source)
        client = Stock(metadata or model.metadata.object_bytes, folder, **settings)
        made.append(client)
        if seeds:
            ends = time.monotonic() + PATIENCE_S
            while not client.has_all:
                assert time.monotonic() < ends, client.handle.status().state
                client.session.wait_for_alert(10)
                client.session.pop_alerts()
        return client

    yield start
    for client in made:
        client.session.pause()
        client.session.remove_torrent(client.handle)


def spans(model: Model, place: Callable[[int], Path], piece: int) -> list[VerifiedSpan]:
    """Return where a piece's blocks belong."""
    found = []
    for block in model.layout.blocks_of_piece(piece):
        span = model.manifest.layout.span(block)
        digest = bytes(model.outboard.hash_of(block))
        found.append((block, str(place(span.file_index)), span.offset, span.length, digest))
    return found


@pytest.fixture
def waiting() -> Callable[..., object]:
    return until


@pytest.fixture
def spans_of() -> Callable[..., list[VerifiedSpan]]:
    return spans
