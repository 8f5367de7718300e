"""What is offered, to which room, and who hears of it."""

from __future__ import annotations

import pytest
from blake3 import blake3

from dreamer.daemon.sharing.lane_clock import LaneClock
from dreamer.daemon.sharing.library import Library
from dreamer.protocol.content.manifest import FileEntry, Manifest
from dreamer.protocol.ids import Digest, RoomId
from dreamer.protocol.limits import MIB
from dreamer.protocol.swarm.vocabulary import Lane

ROOM, OTHER = RoomId(b"r" * 32), RoomId(b"o" * 32)
HASH = Digest(blake3(b"x").digest())
MODEL = Manifest((FileEntry("a", 3 * MIB, HASH, (HASH,)),), HASH, 3)


@pytest.fixture
def library() -> Library:
    return Library()


@pytest.fixture
def told(library):
    heard = []
    library.listen(lambda *what: heard.append(what))
    return heard


def test_listeners_hear_what_is_new_and_nothing_else(library, told) -> None:
    for blocks in (0, 0b011, 0b010, 0b110, 0, 0b111):
        library.offer(ROOM, MODEL.id, MODEL, blocks)
    assert told == [(ROOM, MODEL.id, 0), (ROOM, MODEL.id, 0b011), (ROOM, MODEL.id, 0b100)]
    library.withdraw(ROOM, MODEL.id)
    library.withdraw(ROOM, MODEL.id)
    assert told[3:] == [(ROOM, MODEL.id, 0)]


def test_a_room_knows_only_its_own_models(library) -> None:
    library.offer(ROOM, MODEL.id, MODEL, 0b111)
    assert library.holds(ROOM, MODEL.id)
    assert not library.holds(OTHER, MODEL.id)
    assert library.find(OTHER, MODEL.id) is None
    assert library.object_owner(OTHER, MODEL.id) is None
    assert list(library.in_room(OTHER)) == []
    for digest in (MODEL.id, MODEL.outboard):
        assert library.object_owner(ROOM, digest) is library.find(ROOM, MODEL.id)


def test_part_of_a_model_is_not_held(library) -> None:
    library.offer(ROOM, MODEL.id, MODEL, 0b101)
    assert not library.holds(ROOM, MODEL.id)


def test_a_model_can_be_withdrawn_from_every_room(library, told) -> None:
    for room in (ROOM, OTHER):
        library.offer(room, MODEL.id, MODEL, 0b111)
    library.withdraw_everywhere(MODEL.id)
    assert told[2:] == [(ROOM, MODEL.id, 0), (OTHER, MODEL.id, 0)]
    assert list(library.in_room(ROOM)) == []


def test_a_room_that_is_left_offers_nothing_and_others_do(library) -> None:
    for room in (ROOM, OTHER):
        library.offer(room, MODEL.id, MODEL, 0b111)
    library.withdraw_room(ROOM)
    assert list(library.in_room(ROOM)) == []
    assert library.holds(OTHER, MODEL.id)


def test_whoever_stopped_listening_hears_nothing(library) -> None:
    heard = []
    library.listen(heard.append)
    for _ in range(2):
        library.stop_listening(heard.append)
    library.offer(ROOM, MODEL.id, MODEL, 0b111)
    assert heard == []


def test_a_lanes_seconds_are_those_in_which_it_was_busy() -> None:
    clock = LaneClock(0.0)
    clock.note([Lane.WEBRTC], 10.0)
    clock.note([Lane.WEBRTC, Lane.ORIGIN], 12.0)
    clock.note([], 15.0)
    clock.note([], 99.0)
    seconds = clock.seconds()
    assert (seconds["webrtc"], seconds["origin"], seconds["direct"]) == (5.0, 3.0, 0.0)
