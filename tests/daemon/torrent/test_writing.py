"""The torrent file of a model that is here, whether anybody else may fetch it or not."""

from __future__ import annotations

import time
from dataclasses import replace
from types import SimpleNamespace

import libtorrent as lt
import pytest

from dreamer.daemon.ports import Progress
from dreamer.daemon.sharing.library import Library
from dreamer.daemon.state import HeldModel
from dreamer.daemon.torrent.publicity import Publicity
from dreamer.daemon.torrent.writing import TorrentWriter
from dreamer.protocol.errors import InputError, LocalError
from dreamer.protocol.ids import NodeId, RoomId
from dreamer.protocol.registry.view import Model as Listed
from dreamer.protocol.rooms.card import RoomCard
from dreamer.protocol.swarm import bitfield

ROOM = RoomId(b"r" * 32)
CARD = RoomCard(ROOM, "lab", ("https://one.example",), None, None, b"s" * 32)
SESSION = SimpleNamespace(room_id=ROOM, card=CARD)


class Desk:
    """A writer over the stored model, and the model as the registry lists it."""

    def __init__(self, model) -> None:
        manifest = model.manifest
        self.library = Library()
        self.library.offer(ROOM, manifest.id, manifest, bitfield.full(manifest.block_count))
        self.publicity = Publicity(model.store)
        self.writer = TorrentWriter(self.publicity, model.store, model.state, self.library)
        self.listed = Listed(
            *(manifest.id, "tiny", manifest.size_bytes, len(manifest.files), "files"),
            *(NodeId(b"n" * 32), time.time()),
        )

    async def write(self, output, listed=None):
        events = self.writer.write(SESSION, listed or self.listed, output)
        *progress, receipt = [event async for event in events]
        assert all(isinstance(event, Progress) for event in progress)
        return receipt


@pytest.fixture
def desk(model) -> Desk:
    return Desk(model)


async def test_private_models_torrent_names_it_and_no_tracker(desk, model, tmp_path) -> None:
    receipt = await desk.write(tmp_path / "tiny.torrent")
    written = lt.load_torrent_file(receipt.path)
    assert str(written.info_hashes.v1) == receipt.info_hash_v1 == model.metadata.v1.hex()
    assert str(written.info_hashes.v2) == receipt.info_hash_v2 == model.metadata.v2.hex()
    assert (written.trackers, written.url_seeds) == ([], [])
    assert "&tr=" not in receipt.magnet
    assert not receipt.public
    assert [path.name for path in tmp_path.iterdir()] == ["tiny.torrent"]


async def test_public_models_torrent_has_the_link_of_the_registry(desk, model, tmp_path) -> None:
    said = desk.publicity.announce(model.metadata, "tiny", CARD)
    receipt = await desk.write(tmp_path / "tiny.torrent", replace(desk.listed, torrent=said))
    assert (receipt.public, receipt.magnet) == (True, said.magnet)
    trackers = ["https://one.example/announce", "wss://one.example/announce"]
    assert lt.load_torrent_file(receipt.path).trackers == trackers


async def test_torrent_file_lies_beside_the_model_unless_said_otherwise(
    desk, model, tmp_path
) -> None:
    with pytest.raises(InputError, match="--output FILE"):
        await desk.write(None)
    place = tmp_path / "tiny-1234"
    model.state.put_model(HeldModel(model.manifest.id, ROOM, "tiny", place, 0.0, 0.0))
    try:
        assert (await desk.write(None)).path == f"{place}.torrent"
    finally:
        model.state.drop_model(model.manifest.id)


@pytest.mark.parametrize("blocks", [None, 1])
async def test_model_that_is_not_whole_here_is_to_be_pulled_first(
    desk, model, tmp_path, blocks
) -> None:
    desk.library.withdraw_everywhere(model.manifest.id)
    if blocks:
        desk.library.offer(ROOM, model.manifest.id, model.manifest, blocks)
    with pytest.raises(LocalError, match=r"run 'dreamer pull [0-9a-f]{8}' first"):
        await desk.write(tmp_path / "tiny.torrent")
    assert not any(tmp_path.iterdir())


async def test_place_that_cannot_hold_a_file_is_refused_before_the_model_is_read(
    desk, tmp_path
) -> None:
    with pytest.raises(InputError, match="is a directory"):
        await desk.write(tmp_path)
    with pytest.raises(InputError, match="there is no directory"):
        await desk.write(tmp_path / "none" / "tiny.torrent")


async def test_damaged_model_gets_no_torrent(model, tmp_path) -> None:
    own = type(model)(tmp_path)
    try:
        stored = own.store.file(own.manifest.files[0].digest)
        stored.chmod(0o600)
        stored.write_bytes(b"?" + stored.read_bytes()[1:])
        with pytest.raises(LocalError, match=r"is damaged.*dreamer pull"):
            await Desk(own).write(tmp_path / "tiny.torrent")
        assert not (tmp_path / "tiny.torrent").exists()
    finally:
        own.close()
