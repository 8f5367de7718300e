"""What a registry says of a public model, and that it is signed with the rest."""

from dataclasses import replace

import pytest

from dreamer.protocol.content.magnet import Magnet
from dreamer.protocol.errors import InputError
from dreamer.protocol.ids import Digest, ManifestId
from dreamer.protocol.registry.changes import Publish
from dreamer.protocol.registry.document import parse
from dreamer.protocol.registry.statements import PublicTorrent

A = ManifestId(b"\x01" * 32)
TORRENT = PublicTorrent(
    str(Magnet(b"1" * 20, b"2" * 32, "model", ("ws://t/announce",))),
    str(Magnet(b"3" * 20, b"", "model")),
    Digest(b"m" * 32),
)


def public(room):
    entry = replace(room.entry(1), torrent=TORRENT)
    return room.change(room.empty(), Publish(entry))


def test_public_model_keeps_its_magnet_links_through_the_document(room):
    before = public(room)
    assert before.registry.models[A].torrent == TORRENT
    again = room.verify(parse(before.document.encode(), room.id))
    assert again == before


def test_model_published_anew_without_it_is_public_no_more(room):
    after = room.change(public(room), Publish(room.entry(1)))
    assert after.registry.models[A].torrent is None


def test_entry_without_a_torrent_has_no_field_for_it(room):
    document = room.change(room.empty(), Publish(room.entry(1))).document
    assert b"torrent" not in document.encode()


def test_magnet_link_that_somebody_changed_is_not_believed(room):
    data = public(room).document.encode()
    forged = data.replace((b"1" * 20).hex().encode(), (b"9" * 20).hex().encode())
    assert forged != data
    assert room.verify(parse(forged, room.id)).registry.models == {}


@pytest.mark.parametrize("link", ["", "http://evil/", "magnet:?dn=x"])
def test_what_is_no_magnet_link_is_refused(link):
    with pytest.raises(InputError):
        PublicTorrent(link, TORRENT.magnet_v1, TORRENT.metadata)
    with pytest.raises(InputError):
        PublicTorrent(TORRENT.magnet, link, TORRENT.metadata)
