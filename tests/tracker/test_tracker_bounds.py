"""What strangers, whose keys and rooms cost them nothing, can't have of a tracker."""

from __future__ import annotations

import io

import aiohttp
import pytest

from dreamer.protocol.errors import InputError, LocalError
from dreamer.protocol.ids import NodeId, RoomId
from dreamer.protocol.rooms.membership import Admission
from dreamer.protocol.tracker_limits import (
    TRACKER_NEW_ROOMS_PER_ADDRESS,
    TRACKER_REGISTRY_MAX_BYTES,
)
from dreamer.tracker.room import wire as room_wire
from dreamer.tracker.room.refusal import RefusedError
from dreamer.tracker.room.terms import Terms


async def put(running, insider, welcome, body: bytes) -> tuple[int, str]:
    url = f"{running.url}/rooms/{insider.room_id.hex()}/registry"
    headers = {"Authorization": f"Bearer {welcome['session']}", "If-None-Match": "*"}
    async with running.http.put(url, data=io.BytesIO(body), headers=headers) as response:
        return response.status, await response.text()


async def test_only_listed_rooms_are_served(documents, serving, insider_of, refusal):
    ours, other = insider_of(1), insider_of(1, room_seed=101)
    async with (
        aiohttp.ClientSession() as http,
        serving(documents, http, Terms(frozenset([ours.room_id]))) as running,
    ):
        await ours.enter(running)
        said = await refusal(other, running)
        assert said["code"] == "forbidden"
        assert f"add {other.room_id.hex()} to rooms" in said["message"]
    assert not documents.knows(other.room_id)


async def test_one_address_brings_few_rooms_an_hour_but_enters_those_known(
    running, insider_of, refusal
):
    rooms = [insider_of(1, room_seed=seed) for seed in range(TRACKER_NEW_ROOMS_PER_ADDRESS + 1)]
    for insider in rooms[:-1]:
        talker, _ = await insider.enter(running)
        await talker.close()
    assert "too many new rooms" in (await refusal(rooms[-1], running))["message"]
    await rooms[0].enter(running)


async def test_rooms_are_bounded(running, insider_of, refusal, monkeypatch):
    monkeypatch.setattr("dreamer.tracker.room.documents.TRACKER_MAX_ROOMS", 1)
    await insider_of(1).enter(running)
    said = await refusal(insider_of(1, room_seed=101), running)
    assert "no more rooms" in said["message"]
    await insider_of(2).enter(running)


async def test_full_tracker_refuses_more_registries(running, insider_of, monkeypatch):
    monkeypatch.setattr("dreamer.tracker.room.documents.TRACKER_REGISTRIES_MAX_BYTES", 100)
    for seed, status in ((100, 201), (101, 507)):
        insider = insider_of(1, room_seed=seed)
        _, welcome = await insider.enter(running)
        found = await put(running, insider, welcome, b'{"n":"' + b"x" * 60 + b'"}')
        assert found[0] == status
    assert "ask its owner" in found[1]


def test_registry_that_does_not_grow_fits_into_a_full_tracker(documents, monkeypatch):
    room = RoomId(b"r" * 32)
    etag = documents.write_registry(room, b"{}" * 10, None)
    monkeypatch.setattr("dreamer.tracker.room.documents.TRACKER_REGISTRIES_MAX_BYTES", 5)
    etag = documents.write_registry(room, b"[]" * 10, [etag])
    with pytest.raises(LocalError, match="no space"):
        documents.write_registry(room, b"{}" * 11, [etag])
    assert documents.registry(room).etag == etag


def test_uses_of_invitations_are_bounded_by_room(documents, monkeypatch):
    monkeypatch.setattr("dreamer.tracker.room.documents.TRACKER_ROOM_MAX_ADMISSIONS", 2)
    first, *others = (Admission(b"i" * 16, NodeId(bytes([n]) * 32), 99, None) for n in range(3))
    documents.redeem(RoomId(b"r" * 32), [first, others[0]], now=0.0)
    with pytest.raises(RefusedError, match="make a new one"):
        documents.redeem(RoomId(b"r" * 32), [others[1]], now=0.0)
    documents.redeem(RoomId(b"r" * 32), [first], now=0.0)
    documents.redeem(RoomId(b"o" * 32), [others[1]], now=0.0)


async def test_megabytes_of_brackets_are_not_parsed(running, insiders, monkeypatch):
    """A parser would hold the interpreter for seconds; who reads a registry verifies it anyway."""
    _, welcome = await insiders[0].enter(running)
    body = b'{"a":[' + b"[]," * ((TRACKER_REGISTRY_MAX_BYTES - 20) // 3) + b"[]]}"
    parsed = []
    with monkeypatch.context() as patch:
        patch.setattr("json.loads", lambda data: parsed.append(len(data)))
        status, _ = await put(running, insiders[0], welcome, body)
    assert (status, parsed) == (201, [])


async def test_login_for_another_tracker_is_refused(running, insiders, refusal):
    said = await refusal(insiders[0], running, dialled="elsewhere:8470")
    assert said["code"] == "forbidden"
    assert "for tracker elsewhere:8470" in said["message"]


async def test_name_that_was_not_signed_is_refused(running, insiders, refusal):
    name = running.url.removeprefix("http://")
    said = await refusal(insiders[0], running, dialled="elsewhere:8470", tracker=name)
    assert "wrong signature" in said["message"]


async def test_tracker_that_knows_its_names_goes_by_them_alone(
    documents, serving, insiders, refusal
):
    """Whoever passes a login on forges the Host header with it."""
    terms = Terms(names=frozenset(["t.lab:8470"]))
    async with (
        aiohttp.ClientSession() as http,
        serving(documents, http, terms) as running,
    ):
        assert (await refusal(insiders[0], running))["code"] == "forbidden"
        talker = await insiders[0].knock(running, dialled="t.lab:8470")
        assert (await talker.hear())["type"] == "welcome"


@pytest.mark.parametrize("name", ["", "x\n", "x" * 3000, 5, None])
def test_name_that_is_none_is_malformed(name):
    with pytest.raises(InputError):
        room_wire._tracker(name)
