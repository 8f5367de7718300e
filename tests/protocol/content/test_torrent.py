"""The torrent of a manifest: the same everywhere, and the one that libtorrent would make."""

from __future__ import annotations

import random
import warnings
from pathlib import Path

import libtorrent as lt
import pytest

from dreamer.protocol import bencode
from dreamer.protocol.content import magnet, torrent_layout, torrent_metadata
from dreamer.protocol.content.hashing import FileHasher, hash_blocks
from dreamer.protocol.content.magnet import Magnet
from dreamer.protocol.content.manifest import FileEntry, Manifest
from dreamer.protocol.content.outboard import Outboard
from dreamer.protocol.content.torrent_hashes import hash_pieces
from dreamer.protocol.content.torrent_layout import TorrentLayout, piece_bytes
from dreamer.protocol.content.torrent_metadata import Metadata, describe
from dreamer.protocol.errors import InputError
from dreamer.protocol.ids import Digest
from dreamer.protocol.limits import BLOCK_BYTES, GIB, MIB, TORRENT_MAX_PIECES

RNG = random.Random(4)
FILES = {
    "a-b": b"1" * 5,
    "a0/b": RNG.randbytes(3 * MIB + 17),
    "a0/empty": b"",
    "config.json": b"{}" * 20_000,
    "copy.json": b"{}" * 20_000,
    "exact.bin": RNG.randbytes(2 * MIB),
    "leaf.bin": RNG.randbytes(16 * 1024),
    "übung/größe.bin": RNG.randbytes(MIB + 16 * 1024 * 3 + 1),
}


def manifest_of(files: dict[str, bytes]) -> Manifest:
    entries, blocks = [], b""
    for path in sorted(files):
        data = memoryview(files[path])
        hasher = FileHasher()
        hasher.update(data)
        hashes = hasher.finish()
        entries.append(FileEntry(path, len(data), hashes.digest, hashes.shards))
        blocks += hash_blocks(data)
    outboard = Outboard(blocks)
    return Manifest(tuple(entries), outboard.digest, outboard.block_count)


def metadata_of(files: dict[str, bytes], layout: TorrentLayout) -> Metadata:
    size = layout.piece_bytes
    hashes = []
    for entry in layout.manifest.files:
        data = memoryview(files[entry.path])
        pieces = [data[at : at + size] for at in range(0, len(data), size)]
        hashes.append(hash_pieces(pieces, len(data), size))
    return describe(layout, hashes)


def by_libtorrent(files: dict[str, bytes], layout: TorrentLayout, root: Path) -> dict:
    for path, data in files.items():
        (root / layout.name / path).parent.mkdir(parents=True, exist_ok=True)
        (root / layout.name / path).write_bytes(data)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        storage = lt.file_storage()
        for path in sorted(files):
            storage.add_file(f"{layout.name}/{path}", len(files[path]))
        torrent = lt.create_torrent(storage, layout.piece_bytes)
        lt.set_piece_hashes(torrent, str(root))
        return torrent.generate()


@pytest.mark.parametrize("most_pieces", [TORRENT_MAX_PIECES, 10, 5])
def test_libtorrent_makes_the_same_torrent(tmp_path, monkeypatch, most_pieces) -> None:
    monkeypatch.setattr(torrent_layout, "TORRENT_MAX_PIECES", most_pieces)
    # libtorrent sorts whole paths, and then refuses its own torrent where that differs.
    files = {path: data for path, data in FILES.items() if path != "a-b"}
    layout = TorrentLayout(manifest_of(files))
    assert (layout.piece_bytes > MIB) == (most_pieces < TORRENT_MAX_PIECES)
    ours, theirs = metadata_of(files, layout), by_libtorrent(files, layout, tmp_path)
    assert ours.info == lt.bencode(theirs[b"info"])
    assert bencode.encode(ours.layers) == lt.bencode(theirs[b"piece layers"])


def test_libtorrent_reads_both_hashes_and_the_files() -> None:
    layout = TorrentLayout(manifest_of(FILES))
    metadata = metadata_of(FILES, layout)
    read = lt.load_torrent_buffer(metadata.torrent(["ws://t/announce"], ["http://w/"]))
    assert (read.info_hashes.v1.to_bytes(), read.info_hashes.v2.to_bytes()) == (
        metadata.v1,
        metadata.v2,
    )
    assert (read.trackers, read.url_seeds) == (["ws://t/announce"], ["http://w/"])
    assert read.ti.num_pieces() == layout.piece_count
    assert read.ti.num_files() == len(layout.client_files)


def test_companion_is_a_v1_torrent_of_the_same_pieces() -> None:
    layout = TorrentLayout(manifest_of(FILES))
    metadata = metadata_of(FILES, layout)
    read = lt.load_torrent_buffer(metadata.companion([], []))
    assert (read.info_hashes.has_v1(), read.info_hashes.has_v2()) == (True, False)
    assert read.info_hashes.v1.to_bytes() == metadata.companion_v1 != metadata.v1
    assert (read.ti.num_pieces(), read.ti.num_files()) == (
        layout.piece_count,
        len(layout.client_files),
    )


def test_metadata_is_the_same_however_it_comes_about() -> None:
    backwards = dict(reversed(FILES.items()))
    first = metadata_of(FILES, TorrentLayout(manifest_of(FILES)))
    second = metadata_of(backwards, TorrentLayout(manifest_of(backwards)))
    assert first.object_bytes == second.object_bytes
    # Of this very content: another Dreamer, or another day, must come to the same.
    tiny = {"a": b"x"}
    metadata = metadata_of(tiny, TorrentLayout(manifest_of(tiny)))
    assert metadata.v1.hex() == "8663c742b2173ebe427c4078dd4d232f17593bea"
    assert metadata.v2.hex() == ("562d3bb7f9fdc98041d7575051eab8c495c7a58d2555c55364a27de8f9846db0")


@pytest.mark.parametrize("most_pieces", [TORRENT_MAX_PIECES, 5])
def test_pieces_are_runs_of_blocks_of_one_file(monkeypatch, most_pieces) -> None:
    monkeypatch.setattr(torrent_layout, "TORRENT_MAX_PIECES", most_pieces)
    manifest = manifest_of(FILES)
    layout = TorrentLayout(manifest)
    seen = [block for piece in range(layout.piece_count) for block in layout.blocks_of_piece(piece)]
    assert sorted(seen) == list(range(manifest.block_count))
    for block in range(manifest.block_count):
        assert block in layout.blocks_of_piece(layout.piece_of(block))


@pytest.mark.parametrize("most_pieces", [TORRENT_MAX_PIECES, 5])
def test_sets_of_blocks_and_pieces_translate(monkeypatch, most_pieces) -> None:
    monkeypatch.setattr(torrent_layout, "TORRENT_MAX_PIECES", most_pieces)
    layout = TorrentLayout(manifest_of(FILES))
    count = layout.manifest.block_count
    for blocks in (RNG.getrandbits(count) for _ in range(50)):
        held = {block for block in range(count) if blocks >> block & 1}
        pieces = [set(layout.blocks_of_piece(piece)) for piece in range(layout.piece_count)]
        whole = sum(1 << n for n, inner in enumerate(pieces) if inner <= held)
        touched = sum(1 << n for n, inner in enumerate(pieces) if inner & held)
        assert layout.whole_pieces(blocks) == whole
        assert layout.touched_pieces(blocks) == touched
        all_of = {block for n, inner in enumerate(pieces) if whole >> n & 1 for block in inner}
        assert layout.blocks_of(whole) == sum(1 << block for block in all_of)


@pytest.mark.parametrize(
    ("sizes", "wanted"),
    [
        ([0], MIB),
        ([64 * GIB], MIB),
        ([64 * GIB, 1], 2 * MIB),
        ([9 * GIB + 1, 5], MIB),
        ([1024 * GIB], 16 * MIB),
        ([1] * 20_000, MIB),
    ],
)
def test_piece_size_grows_with_the_model(sizes, wanted) -> None:
    assert piece_bytes(sizes) == wanted
    assert wanted % BLOCK_BYTES == 0


def large_manifest() -> Manifest:
    """Return a model of 80 GiB that nobody has to write: its hashes are made up."""
    shards = tuple(Digest(n.to_bytes(32, "big")) for n in range(80 * 16))
    big = FileEntry("big.bin", 80 * GIB, Digest(b"b" * 32), shards)
    small = FileEntry("z.bin", 7, Digest(b"z" * 32), (Digest(b"z" * 32),))
    return Manifest((big, small), Digest(b"o" * 32), 80 * 1024 + 1)


def test_piece_past_8_gib_lies_where_its_block_does() -> None:
    layout = TorrentLayout(large_manifest())
    assert (layout.piece_bytes, layout.piece_count) == (2 * MIB, 40 * 1024 + 1)
    assert layout.piece_of(80 * 1024 - 1) == 40 * 1024 - 1
    assert layout.blocks_of_piece(40 * 1024) == range(80 * 1024, 80 * 1024 + 1)
    assert layout.files[1].pad_bytes == 2 * MIB - 7


def test_metadata_of_a_stranger_is_taken_only_if_it_is_this_models() -> None:
    layout = TorrentLayout(manifest_of(FILES))
    good = metadata_of(FILES, layout)
    assert torrent_metadata.parse(good.object_bytes, layout) == good
    info = bencode.decode(good.info)
    first = next(iter(good.layers))
    wrong = [
        good.object_bytes[:-1],
        b"i1e",
        bencode.encode({"info": info}),
        bencode.encode({"info": [], "piece layers": good.layers}),
        bencode.encode({"info": {**info, b"name": b"other"}, "piece layers": good.layers}),
        bencode.encode({"info": {**info, b"private": 1}, "piece layers": good.layers}),
        bencode.encode({"info": {**info, b"pieces": b""}, "piece layers": good.layers}),
        bencode.encode({"info": {**info, b"file tree": {}}, "piece layers": good.layers}),
        bencode.encode({"info": info, "piece layers": {}}),
        bencode.encode({"info": info, "piece layers": {**good.layers, first: b"x" * 96}}),
        bencode.encode({"info": info, "piece layers": {**good.layers, b"?" * 32: b"x" * 64}}),
    ]
    for data in wrong:
        with pytest.raises(InputError):
            torrent_metadata.parse(data, layout)


def test_model_without_bytes_is_refused() -> None:
    with pytest.raises(InputError, match="empty"):
        TorrentLayout(manifest_of({"a": b"", "b": b""}))


def test_model_with_files_in_the_padding_directory_is_refused() -> None:
    with pytest.raises(InputError, match="padding"):
        TorrentLayout(manifest_of({".pad/5": b"x", "a": b"y"}))


def test_magnet_link_says_the_same_to_libtorrent() -> None:
    link = Magnet(b"1" * 20, b"2" * 32, "a model & more", ("ws://t/a?b",), ("http://w/x/",))
    assert magnet.parse(str(link)) == link
    read = lt.parse_magnet_uri(str(link))
    assert read.info_hashes.v1.to_bytes() == link.v1
    assert read.info_hashes.v2.to_bytes() == link.v2
    assert (read.name, read.trackers) == (link.name, list(link.trackers))
    assert read.url_seeds == list(link.web_seeds)
    plain = Magnet(b"1" * 20, b"", "x")
    assert magnet.parse(str(plain)) == plain


@pytest.mark.parametrize(
    "text",
    [
        "http://x",
        "magnet:?dn=x",
        "magnet:?xt=urn:btih:12",
        "magnet:?xt=urn:btih:" + "Z" * 40,
        f"magnet:?xt=urn:btih:{'1' * 40}&xt=urn:btih:{'2' * 40}",
        f"magnet:?xt=urn:btih:{'1' * 40}&xt=urn:btmh:1220ff",
        f"magnet:?xt=urn:btih:{'1' * 40}&dn=\x1b[2J",
        f"magnet:?xt=urn:btih:{'1' * 40}&dn={'x' * 9000}",
    ],
)
def test_what_is_no_magnet_link_is_refused(text) -> None:
    with pytest.raises(InputError):
        magnet.parse(text)
