from __future__ import annotations

import pytest

from dreamer.protocol.errors import InputError
from dreamer.protocol.ids import ManifestId, RoomId
from dreamer.protocol.rooms.card import (
    RegistryPlace,
    RoomCard,
    parse_card,
    swarm_hash,
    tracker_base_url,
)


def card(**changes) -> RoomCard:
    facts = {
        "room_id": RoomId(b"r" * 32),
        "name": "team",
        "trackers": ("http://127.0.0.1:8787",),
        "origin": "s3://bucket/models",
        "endpoint_url": "http://127.0.0.1:9000",
        "swarm_secret": b"s" * 32,
    }
    return RoomCard(**{**facts, **changes})


def test_card_survives_json():
    assert parse_card(card().to_json()) == card()
    bare = card(origin=None, endpoint_url=None, trackers=())
    assert parse_card(bare.to_json()) == bare


def test_card_says_where_the_registry_is_kept():
    kept = card(registry=RegistryPlace.ORIGIN)
    assert kept.to_json()["registry"] == "origin"
    assert parse_card(kept.to_json()) == kept


def test_card_of_before_there_was_a_choice_stays_as_it_was():
    written = card().to_json()
    assert "registry" not in written
    assert parse_card(written).registry is RegistryPlace.TRACKER
    assert parse_card({**written, "registry": "tracker"}) == card()


def test_registry_at_an_origin_that_the_room_has_not_is_refused():
    with pytest.raises(InputError, match="where the room has one"):
        card(registry=RegistryPlace.ORIGIN, origin=None, endpoint_url=None)


@pytest.mark.parametrize("word", ["", "s3", "Origin", None, 7, ["origin"]])
def test_place_that_is_none_is_refused(word):
    with pytest.raises(InputError):
        parse_card({**card().to_json(), "registry": word})


def test_card_does_not_show_its_secret():
    assert "73" * 8 not in repr(card())
    assert "ssss" not in repr(card())


@pytest.mark.parametrize(
    ("written", "base"),
    [
        ("ws://host:80/announce", "http://host:80"),
        ("wss://Host.Example/announce/", "https://host.example"),
        ("http://127.0.0.1:8787/", "http://127.0.0.1:8787"),
        ("https://host/dreamer/announce", "https://host/dreamer"),
        ("http://[::1]:9", "http://[::1]:9"),
    ],
)
def test_tracker_urls_are_brought_to_one_form(written, base):
    assert tracker_base_url(written) == base
    assert tracker_base_url(base) == base


@pytest.mark.parametrize(
    "url",
    ["", "host:80", "udp://host:1", "http://", "http://h:99999", "http://u:p@h", "http://h/?q=1",
     "http://h/#f", "http://h h", "http://h\n", "http://" + "h" * 3000, "javascript:alert(1)"],
)  # fmt: skip
def test_url_that_is_no_tracker_is_refused(url):
    with pytest.raises(InputError):
        tracker_base_url(url)


@pytest.mark.parametrize("name", ["", ".hidden", "-x", "a b", "a/b", "ä", "a" * 65, "a\n", "../up"])
def test_name_that_can_not_be_a_rooms_is_refused(name):
    with pytest.raises(InputError, match="room's name"):
        card(name=name)


@pytest.mark.parametrize(
    "change",
    [
        {"origin": "http://bucket/x"},
        {"origin": "s3://"},
        {"origin": "s3://bucket/a b"},
        {"endpoint_url": "ftp://host"},
        {"swarm_secret": b"short"},
        {"trackers": ("ws://host/announce",)},
        {"trackers": tuple(f"http://h{n}" for n in range(9))},
    ],
)
def test_fact_that_is_malformed_is_refused(change):
    with pytest.raises(InputError):
        card(**change)


@pytest.mark.parametrize("change", [{"secret": "00"}, {"room": 1}, {"trackers": "x"}, {"new": 1}])
def test_malformed_card_is_refused(change):
    with pytest.raises(InputError):
        parse_card({**card().to_json(), **change})


def test_swarm_hash_needs_the_secret():
    manifest = ManifestId(b"m" * 32)
    mine = swarm_hash(b"s" * 32, manifest)
    assert len(mine) == 20
    assert mine == swarm_hash(b"s" * 32, manifest)
    assert mine != swarm_hash(b"t" * 32, manifest)
    assert mine != swarm_hash(b"s" * 32, ManifestId(b"n" * 32))
