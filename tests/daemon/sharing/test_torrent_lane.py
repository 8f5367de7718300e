"""A swarm as a source of a pull: what counts of what libtorrent writes, and when."""

from __future__ import annotations

import asyncio
import random
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dreamer.daemon.sharing.torrent_lane import TORRENT, UNASKED, PublicSwarm, TorrentLane
from dreamer.daemon.state import State
from dreamer.daemon.store.download import Download
from dreamer.daemon.store.store import Store
from dreamer.daemon.torrent.vocabulary import (
    AddTorrent,
    PiecesReleased,
    PieceTaken,
    ReleasePieces,
    RemoveTorrent,
    SwarmSeen,
    TorrentFailed,
    TorrentRemoved,
    WantPieces,
)
from dreamer.protocol.content import torrent_layout
from dreamer.protocol.content.manifest import Manifest
from dreamer.protocol.content.torrent_layout import TorrentLayout
from dreamer.protocol.limits import MIB
from dreamer.protocol.swarm import bitfield
from dreamer.protocol.swarm.vocabulary import (
    BlockRejected,
    BlockVerified,
    BytesArrived,
    Cancel,
    Fetch,
    Lane,
    RequestRefused,
    SourceId,
    SourceJoined,
    SourceLost,
)

PEER = SourceId("ab" * 32)
FILES = {"a.bin": 6 * MIB + 17, "b.bin": 2 * MIB, "empty": 0, "twin.bin": 2 * MIB}


class FakeTorrents:
    """The torrent process, as far as the lane sees it."""

    def __init__(self) -> None:
        self.sent: list = []
        self.listener = None
        self.ended = False

    def new_number(self) -> int:
        return 5

    def add(self, command: AddTorrent, on_event) -> None:
        self.sent.append(command)
        self.listener = on_event

    def send(self, command) -> None:
        self.sent.append(command)

    def end_process(self) -> None:
        self.ended = True
        self.listener(TorrentFailed(5, "killed"))

    def wanted(self) -> list[int]:
        commands = (one for one in self.sent if isinstance(one, WantPieces))
        return [piece for command in commands for piece, _ in command.pieces]

    def released(self) -> list[int]:
        commands = (one for one in self.sent if isinstance(one, ReleasePieces))
        return [piece for command in commands for piece in command.pieces]


class Pull:
    """A download with a lane; ``fed`` is what the planner heard, ``present`` what it took."""

    def __init__(self, root: Path, manifest: Manifest, store: Store, source: Path) -> None:
        self.source = source
        self.manifest = manifest
        self.layout = TorrentLayout(manifest)
        self.torrents = FakeTorrents()
        self.download: Download = store.open_download(
            manifest, self._outboard, lambda done, total: None, threading.Event()
        )
        self.present = self.download.present
        self.fed: list = []
        self.folder = store.new_folder()
        swarm = PublicSwarm(self.layout, b"metadata", ["http://t/announce"], self.folder)
        self.lane = TorrentLane(
            self.torrents, swarm, self.download, lambda: self.present, self.feed
        )

    def feed(self, event) -> None:
        if self.lane.holds_back(event):
            return
        self.fed.append(event)
        if isinstance(event, BlockVerified):
            self.present |= 1 << event.block

    def say(self, event) -> None:
        self.torrents.listener(event)

    def write(self, block: int, data: bytes | None = None) -> None:
        """Put a block on disk, as a lane does that has verified it."""
        span = self.manifest.layout.span(block)
        path = self.source / self.manifest.files[span.file_index].path
        right = path.read_bytes()[span.offset : span.offset + span.length]
        self.download.write(block, right if data is None else data)

    def seen(self, pieces: int | None = None, peers: int = 1, down: int = 0) -> None:
        everything = bitfield.full(self.layout.piece_count)
        held = everything if pieces is None else pieces
        data = bitfield.encode(held, self.layout.piece_count)
        self.say(SwarmSeen(5, peers, data, down, 0))


@pytest.fixture
def start(tmp_path, monkeypatch) -> Iterator:
    """``await start()`` begins a pull; ``most_pieces`` makes pieces of several blocks."""
    source = tmp_path / "source"
    source.mkdir()
    rng = random.Random(3)
    for name, size in FILES.items():
        (source / name).write_bytes(rng.randbytes(size))
    (source / "twin.bin").write_bytes((source / "b.bin").read_bytes())
    stores = []

    async def begin(most_pieces: int = 1000, present: int = 0) -> Pull:
        monkeypatch.setattr(torrent_layout, "TORRENT_MAX_PIECES", most_pieces)
        publisher = Store(tmp_path / "publisher", State(tmp_path / "publisher.db"))
        store = Store(tmp_path / "puller", State(tmp_path / "puller.db"))
        stores.extend((publisher, store))
        _, manifest = publisher.ingest(source, lambda done, total: None, threading.Event())
        Pull._outboard = publisher.outboard(manifest)
        pull = Pull(tmp_path, manifest, store, source)
        pull.present |= present
        await pull.lane.start()
        return pull

    yield begin
    for store in stores:
        store.close()
        store._state.close()


async def settled() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


async def test_blocks_count_once_their_hash_is_right(start) -> None:
    pull = await start()
    pull.seen()
    pull.lane.fetch(Fetch(TORRENT, 9, 1, 2))
    assert {1, 2} <= set(pull.torrents.wanted())
    pull.say(PieceTaken(5, 1, [1], []))
    pull.seen(down=3)
    assert pull.fed[-2:] == [BlockVerified(TORRENT, 9, 1), BytesArrived(TORRENT, 3)]


async def test_swarm_offers_what_its_peers_have_and_no_file_twice(start) -> None:
    pull = await start()
    assert not pull.lane.settled
    pull.seen()
    assert pull.lane.settled
    # Seven blocks of a.bin and two of b.bin; twin.bin lies where b.bin does.
    assert pull.fed == [SourceJoined(TORRENT, Lane.TORRENT, bitfield.full(9))]
    pull.seen(0b101)
    assert pull.fed[-1] == SourceJoined(TORRENT, Lane.TORRENT, 0b101)


async def test_something_is_wanted_from_the_beginning(start) -> None:
    pull = await start()
    (probe,) = pull.torrents.wanted()
    pull.say(PieceTaken(5, probe, [probe], []))
    # Before the swarm was ever reported: its bytes are the swarm's nonetheless.
    assert pull.fed == [
        SourceJoined(TORRENT, Lane.TORRENT, 1 << probe),
        BlockVerified(TORRENT, UNASKED, probe),
    ]
    assert not pull.lane.settled


async def test_something_is_wanted_until_the_planner_has_heard_who_has_what(start) -> None:
    """A seed hangs up on whoever wants nothing of it, and is not dialled again for a minute."""
    pull = await start()
    (first,) = pull.torrents.wanted()
    pull.write(first)
    pull.say(PieceTaken(5, first, [first], []))
    _, second = pull.torrents.wanted()
    pull.seen()
    pull.write(second)
    pull.say(PieceTaken(5, second, [second], []))
    assert pull.torrents.wanted() == [first, second]


async def test_block_of_another_lane_is_held_back_until_the_piece_is_closed(start) -> None:
    pull = await start()
    pull.seen()
    pull.lane.fetch(Fetch(TORRENT, 9, 1, 1))
    pull.write(1)
    came = BlockVerified(PEER, 4, 1)
    pull.feed(came)
    assert came not in pull.fed
    assert pull.torrents.released() == [1]
    pull.say(PiecesReleased(5, [1], [1]))
    assert pull.fed[-1] == came
    # It is closed: nothing is held back any more.
    pull.feed(BlockVerified(PEER, 4, 2))
    assert pull.fed[-1] == BlockVerified(PEER, 4, 2)


async def test_block_that_libtorrent_wrote_over_is_asked_for_again(start) -> None:
    pull = await start()
    pull.seen()
    pull.lane.fetch(Fetch(TORRENT, 9, 1, 1))
    pull.feed(BlockVerified(PEER, 4, 1))
    pull.say(PiecesReleased(5, [1], []))
    assert pull.fed[-1] == RequestRefused(PEER, 4, True)
    assert not pull.present >> 1 & 1


async def test_block_of_a_twin_is_held_back_too(start) -> None:
    pull = await start()
    pull.seen()
    pull.lane.fetch(Fetch(TORRENT, 9, 7, 1))
    twin = next(iter(pull.download.same(7)))
    pull.feed(BlockVerified(PEER, 4, twin))
    assert pull.torrents.released() == [7]
    pull.say(PiecesReleased(5, [7], [7]))
    assert pull.fed[-1] == BlockVerified(PEER, 4, twin)


async def test_wrong_bytes_are_the_swarms_fault_and_end_it(start) -> None:
    pull = await start()
    pull.seen()
    pull.lane.fetch(Fetch(TORRENT, 9, 1, 1))
    pull.say(PieceTaken(5, 1, [], [1]))
    assert pull.fed[-1] == BlockRejected(TORRENT, 9, 1)
    assert isinstance(pull.torrents.sent[-1], RemoveTorrent)
    pull.lane.fetch(Fetch(TORRENT, 10, 2, 1))
    await settled()
    assert pull.fed[-1] == RequestRefused(TORRENT, 10, False)


async def test_swarm_that_everybody_left_gives_its_requests_back(start) -> None:
    pull = await start()
    pull.seen()
    pull.lane.fetch(Fetch(TORRENT, 9, 0, 4))
    pull.seen(0, peers=0)
    assert pull.fed[-1] == SourceLost(TORRENT)
    assert set(pull.torrents.released()) >= {0, 1, 2, 3}
    pull.seen()
    assert isinstance(pull.fed[-1], SourceJoined)


async def test_cancelled_request_is_released_and_not_asked_again_before(start) -> None:
    pull = await start()
    pull.seen()
    pull.lane.fetch(Fetch(TORRENT, 9, 0, 3))
    pull.lane.cancel(Cancel(TORRENT, 9, 1))
    assert 1 in pull.torrents.released()
    pull.lane.fetch(Fetch(TORRENT, 10, 1, 1))
    await settled()
    assert pull.fed[-1] == RequestRefused(TORRENT, 10, True)
    pull.lane.cancel(Cancel(TORRENT, 9, None))
    assert {0, 1, 2} <= set(pull.torrents.released())


async def test_piece_of_which_others_have_brought_a_part_is_not_fetched(start) -> None:
    pull = await start(most_pieces=5, present=0b10)
    assert pull.layout.blocks_per_piece > 1
    pull.seen()
    pull.lane.fetch(Fetch(TORRENT, 9, 2, 1))
    await settled()
    assert pull.fed[-1] == RequestRefused(TORRENT, 9, False)
    assert pull.layout.piece_of(2) not in pull.torrents.wanted()


async def test_process_that_dies_holds_nothing_back(start) -> None:
    pull = await start()
    pull.seen()
    pull.lane.fetch(Fetch(TORRENT, 9, 1, 2))
    pull.write(1)
    pull.feed(BlockVerified(PEER, 4, 1))
    pull.feed(BlockVerified(PEER, 4, 2))
    pull.say(TorrentFailed(5, "it ended"))
    assert SourceLost(TORRENT) in pull.fed
    assert pull.fed[-2:] == [BlockVerified(PEER, 4, 1), RequestRefused(PEER, 4, True)]
    pull.feed(BlockVerified(PEER, 5, 3))
    assert pull.fed[-1] == BlockVerified(PEER, 5, 3)


async def test_files_are_linked_and_nothing_else_is_named(start) -> None:
    pull = await start()
    (added,) = (one for one in pull.torrents.sent if isinstance(one, AddTorrent))
    names = sorted(path.name for path in pull.folder.iterdir())
    assert names == ["0", "1"]
    # a.bin and its padding, b.bin, the empty file, the twin at b.bin's place.
    assert added.paths == ["0", "", "1", "2", "1"]
    partial = pull.download.target(0).path
    assert (pull.folder / "0").samefile(partial)


async def test_lane_is_closed_once_libtorrent_has_let_go(start) -> None:
    pull = await start()
    closing = asyncio.ensure_future(pull.lane.closed())
    await settled()
    assert not closing.done()
    pull.say(TorrentRemoved(5))
    await closing
    assert not pull.folder.exists()
    assert pull.download.target(0).path.exists()


async def test_libtorrent_that_does_not_let_go_is_ended(start, monkeypatch) -> None:
    monkeypatch.setattr("dreamer.daemon.sharing.torrent_lane.TORRENT_REMOVE_TIMEOUT_S", 0.01)
    pull = await start()
    await pull.lane.closed()
    assert pull.torrents.ended
