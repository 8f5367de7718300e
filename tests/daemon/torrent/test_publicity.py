"""What strangers are told of a public model, made of the stored files."""

from __future__ import annotations

import threading
from dataclasses import replace

import libtorrent as lt
import pytest

from dreamer.daemon.torrent.publicity import Publicity
from dreamer.protocol.content import magnet, torrent_metadata
from dreamer.protocol.errors import LocalError, StoppedError
from dreamer.protocol.ids import RoomId
from dreamer.protocol.rooms.card import RoomCard

CARD = RoomCard(
    RoomId(b"r" * 32),
    "lab",
    ("https://one.example", "http://two.example:8470/sub"),
    "s3://bucket/prefix",
    "https://s3.example",
    b"s" * 32,
)
ANNOUNCE = [
    "https://one.example/announce",
    "http://two.example:8470/sub/announce",
    "wss://one.example/announce",
    "ws://two.example:8470/sub/announce",
]


def ignore(done: int, total: int) -> None:
    """Progress nobody looks at."""


def test_metadata_of_stored_files_is_kept_as_an_object(model) -> None:
    data = model.store.get_object(model.metadata.digest)
    assert data == model.metadata.object_bytes
    assert torrent_metadata.parse(data, model.layout) == model.metadata


def test_progress_ends_at_the_size_of_the_distinct_files(model) -> None:
    seen = []
    Publicity(model.store).make(
        model.manifest, lambda done, total: seen.append((done, total)), threading.Event()
    )
    distinct = {entry.digest: entry.size_bytes for entry in model.manifest.files}
    assert seen[-1] == (sum(distinct.values()), model.manifest.size_bytes)


def test_hashing_stops_when_told(model) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(StoppedError):
        Publicity(model.store).make(model.manifest, ignore, stop)


def test_links_name_the_rooms_trackers_and_the_others(model) -> None:
    publicity = Publicity(model.store, ("udp://more.example:1",), ("http://web.example/models",))
    said = publicity.announce(model.metadata, "a name", CARD)
    link, plain = magnet.parse(said.magnet), magnet.parse(said.magnet_v1)
    assert (link.v1, link.v2, link.name) == (model.metadata.v1, model.metadata.v2, "a name")
    assert (plain.v1, plain.v2) == (model.metadata.companion_v1, b"")
    assert list(link.trackers) == [*ANNOUNCE, "udp://more.example:1"]
    assert link.web_seeds == ("http://web.example/models/",)
    assert said.metadata == model.metadata.digest


def test_origin_is_a_web_seed_only_if_anybody_can_read_it(model) -> None:
    assert Publicity(model.store).web_seeds(CARD) == []
    public = Publicity(model.store, origin_is_public=True)
    assert public.web_seeds(CARD) == ["https://s3.example/bucket/prefix/torrents/"]
    assert public.web_seeds(replace(CARD, endpoint_url=None)) == [
        "https://s3.amazonaws.com/bucket/prefix/torrents/"
    ]
    assert public.web_seeds(replace(CARD, origin=None)) == []


def test_torrent_files_lie_beside_the_directory(model, tmp_path) -> None:
    publicity = Publicity(model.store)
    files = publicity.write_files(model.metadata, CARD, tmp_path / "tiny-1234")
    assert [path.name for path in files] == ["tiny-1234.torrent", "tiny-1234.v1.torrent"]
    hybrid, plain = (lt.load_torrent_file(str(path)) for path in files)
    assert hybrid.trackers == plain.trackers == ANNOUNCE
    assert hybrid.info_hashes.has_v2()
    assert not plain.info_hashes.has_v2()


def test_metadata_that_is_lost_is_made_again_but_no_other_is_taken(model) -> None:
    publicity = Publicity(model.store)
    said = publicity.announce(model.metadata, "x", CARD)
    lost = replace(said, metadata=type(said.metadata)(b"?" * 32))
    assert publicity.known(model.manifest, lost, threading.Event()) == model.metadata
    other = replace(lost, magnet=said.magnet.replace(model.metadata.v1.hex(), "0" * 40))
    with pytest.raises(LocalError, match="another torrent"):
        publicity.known(model.manifest, other, threading.Event())
