"""The torrent process against stock libtorrent: what it gives, what it writes, what it lets be."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import libtorrent as lt
import psutil
import pytest

from dreamer.daemon.torrent.settings import QUIET, settings
from dreamer.daemon.torrent.vocabulary import (
    AskSettings,
    Configure,
    PiecesReleased,
    PieceTaken,
    ReleasePieces,
    RemoveTorrent,
    SetLimits,
    SwarmSeen,
    TorrentFailed,
    TorrentRemoved,
    WantPieces,
)

pytestmark = [pytest.mark.interop, pytest.mark.timeout(60)]


class Partials:
    """Files of the right sizes with nothing in them."""

    def __init__(self, model, root) -> None:
        self.folder = root / "partial"
        self.folder.mkdir()
        self.model = model
        for index, entry in enumerate(model.manifest.files):
            with self.place(index).open("wb") as file:
                file.truncate(entry.size_bytes)

    def place(self, index: int):
        return self.folder / str(index)

    def command(self, number: int, have: int = 0):
        paths = ["" if n is None else str(n) for n in self.model.layout.client_files]
        held = have.to_bytes((self.model.layout.piece_count + 7) // 8, "little")
        return self.model.command(number, folder=str(self.folder), paths=paths, have=held)

    def written(self) -> set[int]:
        """Return the blocks of which anything is there."""
        layout = self.model.manifest.layout
        found = set()
        for block in range(layout.block_count):
            span = layout.span(block)
            with self.place(span.file_index).open("rb") as file:
                file.seek(span.offset)
                if any(file.read(span.length)):
                    found.add(block)
        return found


@pytest.fixture
def partials(model, tmp_path) -> Partials:
    return Partials(model, tmp_path)


async def settings_in_force(running) -> dict:
    answer = running.torrents.expect_settings()
    running.torrents.send(AskSettings())
    return json.loads(await answer)


async def test_nothing_that_phones_home_is_on(running) -> None:
    found = await settings_in_force(running)
    # The fixture speaks to loopback alone; the default does not.
    expected = {**QUIET, "ssrf_mitigation": False}
    assert {key: found[key] for key in QUIET} == expected
    assert found["user_agent"] == "Dreamer/test"
    assert settings(Configure("", "", False, False, ""))["ssrf_mitigation"] is True
    # What libtorrent would do by itself, and a later version might name anew.
    for key, value in found.items():
        suspicious = key.startswith(("enable_lsd", "enable_upnp", "enable_natpmp", "enable_dht"))
        assert not (suspicious and value), key
        assert "stun.l.google" not in str(value)
        assert "libtorrent.org" not in str(value), key


async def test_process_starts_with_the_first_torrent(running, model) -> None:
    assert running.torrents.pid is None
    running.add(model.command(1))
    await running.port()
    assert running.torrents.pid is not None


async def test_stock_client_gets_it_from_the_stored_files(running, model, stock, waiting) -> None:
    stored = sorted((model.store.root / ".dreamer" / "files").iterdir())
    before = [(path.name, path.stat().st_mtime_ns, path.stat().st_ino) for path in stored]
    running.add(model.command(1))
    # So slow that libtorrent, which counts by the second, sees it pass.
    client = stock(download_rate_limit=3 * 2**20)
    client.meet(await running.port())
    await waiting(lambda: client.has_all)
    stored = sorted((model.store.root / ".dreamer" / "files").iterdir())
    assert [(path.name, path.stat().st_mtime_ns, path.stat().st_ino) for path in stored] == before
    await waiting(lambda: sum(seen.up_bytes for seen in running.said(SwarmSeen)) > 2**20)
    assert psutil.Process(running.torrents.pid).memory_info().rss < 250 * 2**20


async def test_companion_gives_the_same_files(running, model, stock, waiting) -> None:
    companion = model.metadata.companion((), ())
    running.add(model.command(1))
    running.add(model.command(2, metadata=companion))
    client = stock(metadata=companion)
    client.meet(await running.port())
    await waiting(lambda: client.has_all)


async def test_only_wanted_pieces_are_fetched(
    running, model, stock, partials, waiting, spans_of
) -> None:
    number = running.add(partials.command(1))
    wanted = [0, 2, 7]
    pieces = [(piece, spans_of(model, partials.place, piece)) for piece in wanted]
    running.torrents.send(WantPieces(number, pieces))
    stock(seeds=True).meet(await running.port())
    await waiting(lambda: len(running.said(PieceTaken)) == len(wanted))
    taken = sorted(running.said(PieceTaken), key=lambda event: event.piece)
    assert [event.piece for event in taken] == wanted
    assert not any(event.bad for event in taken)
    good = {block for event in taken for block in event.good}
    assert partials.written() == good
    assert good == {block for piece in wanted for block in model.layout.blocks_of_piece(piece)}


async def test_piece_that_is_here_is_not_fetched_and_can_be_had(
    running, model, stock, partials, waiting
) -> None:
    entry = model.layout.files[0]
    data = (model.source / model.manifest.files[entry.index].path).read_bytes()
    partials.place(entry.index).write_bytes(data)
    have = sum(1 << piece for piece in range(entry.piece_count))
    running.add(partials.command(1, have))
    client = stock()
    client.meet(await running.port())
    await waiting(lambda: sum(client.handle.status().pieces) == entry.piece_count)


async def test_released_piece_is_written_no_more(
    running, model, stock, partials, waiting, spans_of
) -> None:
    # So slow that most of the piece is still to come when it is released.
    running.torrents.limit(SetLimits(0, 150 * 1024))
    number = running.add(partials.command(1))
    seeder = stock(seeds=True)
    piece = 1
    wanted = spans_of(model, partials.place, piece)
    running.torrents.send(WantPieces(number, [(piece, wanted)]))
    seeder.meet(await running.port())
    await waiting(lambda: any(seen.down_bytes for seen in running.said(SwarmSeen)))
    running.torrents.send(ReleasePieces(number, [piece]))
    await waiting(lambda: running.said(PiecesReleased))
    assert running.said(PiecesReleased)[0] == PiecesReleased(number, [piece], [])
    running.torrents.limit(SetLimits(0, 0))
    # What another lane writes now has to stay, though the seeder is dialled again.
    _, path, offset, length, _ = wanted[0]
    fd = os.open(path, os.O_WRONLY)
    os.pwrite(fd, b"\x5a" * length, offset)
    os.close(fd)
    other = 3
    running.torrents.send(WantPieces(number, [(other, spans_of(model, partials.place, other))]))
    await waiting(lambda: running.said(PieceTaken))
    with Path(path).open("rb") as file:
        file.seek(offset)
        assert file.read(length) == b"\x5a" * length


async def test_release_tells_which_blocks_are_right(running, model, partials, waiting, spans_of):
    number = running.add(partials.command(1))
    span = spans_of(model, partials.place, 0)[0]
    running.torrents.send(WantPieces(number, [(0, [span])]))
    entry = model.layout.files[0]
    source = model.source / model.manifest.files[entry.index].path
    partials.place(entry.index).write_bytes(source.read_bytes())
    running.torrents.send(ReleasePieces(number, [0]))
    await waiting(lambda: running.said(PiecesReleased))
    assert running.said(PiecesReleased) == [PiecesReleased(number, [0], [span[0]])]


async def test_piece_with_other_bytes_than_the_models_is_told(
    running, model, stock, partials, waiting, spans_of
) -> None:
    number = running.add(partials.command(1))
    (block, path, offset, length, _) = spans_of(model, partials.place, 0)[0]
    lie = [(block, path, offset, length, b"?" * 32)]
    running.torrents.send(WantPieces(number, [(0, lie)]))
    stock(seeds=True).meet(await running.port())
    await waiting(lambda: running.said(PieceTaken))
    assert running.said(PieceTaken) == [PieceTaken(number, 0, [], [block])]


async def test_swarm_can_be_left_and_entered_again_at_once(running, model, stock, waiting) -> None:
    running.add(model.command(1))
    running.torrents.send(RemoveTorrent(1))
    running.add(model.command(2))
    await waiting(lambda: running.said(TorrentRemoved))
    client = stock()
    client.meet(await running.port())
    await waiting(lambda: client.has_all)
    assert running.said(TorrentRemoved) == [TorrentRemoved(1)]


async def test_swarm_that_two_wait_for_is_had_by_one_after_the_other(
    running, model, stock, waiting
) -> None:
    running.add(model.command(1))
    for number in (2, 3):
        running.add(model.command(number))
    for number in (1, 2):
        running.torrents.send(RemoveTorrent(number))
    await waiting(lambda: len(running.said(TorrentRemoved)) == 2)
    client = stock()
    client.meet(await running.port())
    await waiting(lambda: client.has_all)
    assert not running.said(TorrentFailed)


async def test_file_that_is_not_the_torrents_is_neither_given_nor_written(
    running, model, stock, waiting, tmp_path
) -> None:
    """Hashes are a publisher's word: libtorrent would fetch what it takes for damage."""
    entry = model.manifest.files[0]
    changed = tmp_path / "changed"
    changed.write_bytes(b"?" * 9 + model.store.file(entry.digest).read_bytes()[9:])
    before = changed.read_bytes()
    running.add(model.command(1, paths=[str(changed), *model.command(1).paths[1:]]))
    seeder, asker = (
        stock(
            seeds=True,
            alert_mask=lt.alert.category_t.connect_notification
            | lt.alert.category_t.status_notification,
        ),
        stock(),
    )
    asker.meet(await running.port())
    pieces = model.layout.piece_count
    await waiting(lambda: asker.handle.status().num_pieces == pieces - 1)
    seeder.meet(await running.port())
    await waiting(lambda: lt.peer_disconnected_alert in map(type, seeder.session.pop_alerts()))
    # Ours wanted nothing of the seeder, which has parted from it over that.
    assert seeder.up_bytes == 0
    assert changed.read_bytes() == before


async def test_torrent_that_is_none_fails_alone(running, model, stock, waiting) -> None:
    running.add(model.command(1, metadata=b"nonsense"))
    running.add(model.command(2))
    await waiting(lambda: running.said(TorrentFailed))
    assert [event.torrent for event in running.said(TorrentFailed)] == [1]
    client = stock()
    client.meet(await running.port())
    await waiting(lambda: client.has_all)


async def test_killed_process_is_told_and_started_again(running, model, waiting) -> None:
    running.add(model.command(1))
    await running.port()
    first = running.torrents.pid
    os.kill(first, signal.SIGKILL)
    await waiting(lambda: running.said(TorrentFailed))
    running.add(model.command(2))
    await running.port()
    assert running.torrents.pid != first


async def test_upload_limit_holds(running, model, stock, waiting) -> None:
    running.torrents.limit(SetLimits(256 * 1024, 0))
    running.add(model.command(1))
    found = await settings_in_force(running)
    assert found["upload_rate_limit"] == 256 * 1024
