"""Revocations as the tracker keeps them, repeats them, and bounds them."""

from __future__ import annotations

import asyncio

import pytest

from dreamer.protocol.errors import ForbiddenError
from dreamer.protocol.ids import NodeId
from dreamer.protocol.rooms.revocations import Revocation, parse_revocation
from dreamer.tracker.room import admission
from dreamer.tracker.room import documents as store

NOW = 1_800_000_000.0


def revocation(admin, node: bytes, number: int) -> Revocation:
    unsigned = Revocation(admin.room_id, number, NodeId(node), 1, admin.chain)
    return unsigned.signed_by(admin.key)


def by_the_room(admin, number: int) -> Revocation:
    unsigned = Revocation(admin.room_id, number, NodeId(bytes([number]) * 32), 1, ())
    return unsigned.signed_by(admin.room_key)


async def test_who_comes_later_hears_of_every_revocation_after_the_welcome(running, insider_of):
    admin, gone = insider_of(1), insider_of(2).invited()
    boss, _ = await admin.enter(running)
    expected = []
    for number, node in enumerate((gone.key.public, b"x" * 32), start=1):
        expected.append(revocation(admin, node, number))
        await boss.say(type="revoke", revocation=expected[-1].to_json())
        live = await boss.hear_type("revoked")
        assert parse_revocation(live["revocation"]) == expected[-1]
    talker, _ = await insider_of(3).enter(running)
    said = [await talker.hear() for _ in expected]
    assert [each["type"] for each in said] == ["revoked", "revoked"]
    assert [parse_revocation(each["revocation"]) for each in said] == expected


async def test_revocations_are_repeated_after_a_restart_of_the_tracker(
    running, documents, insider_of
):
    admin = insider_of(1)
    admission.revoke(documents, admin.room_id, revocation(admin, b"x" * 32, 1), NOW)
    talker, _ = await admin.enter(running)
    assert (await talker.hear())["revocation"]["number"] == 1


async def test_any_member_brings_revocations_that_the_tracker_missed_whatever_their_numbers(
    running, documents, insider_of
):
    admin, gone = insider_of(1), insider_of(2).invited()
    here = revocation(admin, b"x" * 32, 1)
    admission.revoke(documents, admin.room_id, here, NOW)
    elsewhere = [revocation(admin, gone.key.public, 1), revocation(admin, b"y" * 32, 7)]
    courier, _ = await insider_of(3).enter(running)
    leaving, _ = await gone.enter(running)
    assert parse_revocation((await courier.hear_type("revoked"))["revocation"]) == here
    for missed in elsewhere:
        await courier.say(type="revoke", revocation=missed.to_json())
        assert parse_revocation((await courier.hear_type("revoked"))["revocation"]) == missed
    assert (await leaving.hear_type("refused"))["code"] == "revoked"
    assert documents.revoked(admin.room_id).log == (here, *elsewhere)


async def test_revocation_that_is_known_is_told_only_to_who_brings_it_again(
    running, documents, insider_of
):
    admin = insider_of(1)
    known = revocation(admin, b"x" * 32, 1)
    admission.revoke(documents, admin.room_id, known, NOW)
    courier, _ = await insider_of(2).enter(running)
    other, _ = await insider_of(3).enter(running)
    for talker in (courier, other):
        await talker.hear_type("revoked")
    for _ in range(3):
        await courier.say(type="revoke", revocation=known.to_json())
        await courier.hear_type("revoked")
    await other.say(type="seek", swarm="00" * 20)
    assert (await other.hear())["type"] == "holders"
    assert len(documents.revoked(admin.room_id).log) == 1


async def test_other_rooms_hear_nothing_of_it(running, documents, insider_of):
    admin, other = insider_of(1), insider_of(1, room_seed=101)
    admission.revoke(documents, admin.room_id, revocation(admin, b"x" * 32, 1), NOW)
    talker, _ = await other.enter(running)
    await talker.say(type="seek", swarm="00" * 20)
    assert (await talker.hear())["type"] == "holders"


def test_admins_revocations_end_before_those_of_the_rooms_own_key(
    documents, insider_of, monkeypatch
):
    monkeypatch.setattr(admission, "TRACKER_ROOM_MAX_REVOCATIONS", 3)
    monkeypatch.setattr(admission, "TRACKER_ROOM_KEY_REVOCATIONS", 1)
    admin = insider_of(1)
    for number in (1, 2):
        admission.revoke(
            documents, admin.room_id, revocation(admin, bytes([number]) * 32, number), NOW
        )
    with pytest.raises(ForbiddenError, match="keeps no more: make a new room"):
        admission.revoke(documents, admin.room_id, revocation(admin, b"x" * 32, 3), NOW)
    admission.revoke(documents, admin.room_id, by_the_room(admin, 3), NOW)
    with pytest.raises(ForbiddenError, match="keeps no more"):
        admission.revoke(documents, admin.room_id, by_the_room(admin, 4), NOW)
    assert len(documents.revoked(admin.room_id).log) == 3


def test_refused_revocation_leaves_no_trace(documents, insider_of):
    admin, guest = insider_of(1), insider_of(2).invited()
    with pytest.raises(ForbiddenError):
        admission.revoke(documents, admin.room_id, revocation(guest, admin.key.public, 1), NOW)
    assert len(documents.revoked(admin.room_id).nodes) == 0


def test_revocations_are_parsed_once_and_again_only_when_they_change(
    documents, insider_of, monkeypatch
):
    parsed = []
    parse = store.parse_revocation
    monkeypatch.setattr(
        store, "parse_revocation", lambda said: parsed.append(said["number"]) or parse(said)
    )
    admin = insider_of(1)
    admission.revoke(documents, admin.room_id, revocation(admin, b"x" * 32, 1), NOW)
    for _ in range(5):
        documents.revoked(admin.room_id)
    assert parsed == [1]
    admission.revoke(documents, admin.room_id, revocation(admin, b"y" * 32, 2), NOW)
    assert len(documents.revoked(admin.room_id).nodes) == 2
    assert parsed == [1, 1, 2]


def test_few_rooms_revocations_are_kept_in_memory(documents, insider_of, monkeypatch):
    monkeypatch.setattr(store, "TRACKER_CACHED_REVOCATIONS_ROOMS", 2)
    rooms = [insider_of(1, room_seed=seed).room_id for seed in (100, 101, 102)]
    documents.revoked(rooms[0])
    documents.revoked(rooms[1])
    documents.revoked(rooms[0])
    documents.revoked(rooms[2])
    assert list(documents._revoked) == [rooms[0], rooms[2]]


async def test_room_that_is_busy_keeps_no_other_waiting(running, insider_of):
    busy, other = insider_of(1), insider_of(1, room_seed=101)
    async with running.tracker._room._gate(busy.room_id):
        waiting = await busy.knock(running)
        async with asyncio.timeout(5):
            await other.enter(running)
    assert (await waiting.hear())["type"] == "welcome"
    assert len(running.tracker._room._gates) == 0
