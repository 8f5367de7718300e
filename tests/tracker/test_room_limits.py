"""How much one address and one member can ask of the room side, however they come and go."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from dreamer.protocol.ids import NodeId
from dreamer.protocol.rooms.revocations import Revocation
from dreamer.protocol.tracker_limits import (
    TRACKER_ENTRIES_BURST,
    TRACKER_ENTRIES_PER_S,
    TRACKER_LOGINS_BURST,
    TRACKER_LOGINS_PER_S,
    TRACKER_MESSAGES_BURST,
    TRACKER_REGISTRY_REQUESTS_BURST,
    TRACKER_REGISTRY_REQUESTS_PER_S,
)

SWARM = "ab" * 20
BUSY = 429


class Clock:
    """Time that passes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(running) -> Clock:
    clock = Clock()
    running.tracker._room._steady = running.tracker._auth.steady = clock
    return clock


async def turned_away(running) -> None:
    """Knock at a door that doesn't open."""
    with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
        await running.open("/room")
    assert caught.value.status == BUSY


async def empty(running) -> None:
    """Return once the tracker has noticed that nobody knocks any more."""
    async with asyncio.timeout(5):
        while running.tracker._room._knocks:
            await running.get("/health")


async def test_sockets_that_do_not_log_in_are_few_for_each_address(running, insiders, monkeypatch):
    monkeypatch.setattr("dreamer.tracker.room.knocks.TRACKER_KNOCKS_PER_ADDRESS", 3)
    # Whoever is in no longer stands at the door.
    members = [await insider.enter(running) for insider in insiders[:4]]
    assert len(members) > 3
    strangers = [await running.open("/room") for _ in range(3)]
    await turned_away(running)
    await strangers[0].close()
    await strangers[1].say(type="nonsense")
    assert (await strangers[1].hear_type("refused"))["code"] == "bad_input"
    await strangers[1].closed()
    await strangers[2].close()
    await empty(running)
    await insiders[4].enter(running)


async def test_newcomer_takes_the_place_of_one_that_only_stands_there(
    running, insiders, monkeypatch
):
    monkeypatch.setattr("dreamer.tracker.room.knocks.TRACKER_KNOCKS_MAX", 2)
    idle = [await running.open("/room") for _ in range(2)]
    for talker in idle:
        await talker.hear()
    await insiders[0].enter(running)
    assert await idle[0].closed()


async def test_one_address_logs_in_so_often_and_then_slowly(running, insiders, clock):
    for _ in range(int(TRACKER_LOGINS_BURST)):
        await (await running.open("/room")).close()
    await empty(running)
    await turned_away(running)
    clock.now += 1.01 / TRACKER_LOGINS_PER_S
    await insiders[0].enter(running)
    await turned_away(running)
    # Public clients are another matter.
    await running.open("/announce")


async def test_node_that_logs_in_again_and_again_is_told_to_wait(running, insiders, clock, refusal):
    for _ in range(int(TRACKER_ENTRIES_BURST)):
        await insiders[0].enter(running)
    said = await refusal(insiders[0], running)
    assert (said["code"], "too often" in said["message"]) == ("full", True)
    await insiders[1].enter(running)
    clock.now += 1.01 / TRACKER_ENTRIES_PER_S
    await insiders[0].enter(running)


async def test_false_proof_does_not_use_up_the_logins_of_a_node(running, insiders, clock, refusal):
    for _ in range(int(TRACKER_ENTRIES_BURST) + 1):
        assert (await refusal(insiders[0], running, sig="00" * 64))["code"] == "forbidden"
    await insiders[0].enter(running)


async def test_member_that_connects_again_has_no_fresh_burst(running, insiders, clock):
    member = (insiders[0].room_id, NodeId(insiders[0].key.public))
    paces = running.tracker._room._messages
    for _ in range(2):
        talker, _ = await insiders[0].enter(running)
        for _ in range(int(TRACKER_MESSAGES_BURST) // 2):
            await talker.say(type="seek", swarm=SWARM)
        for _ in range(int(TRACKER_MESSAGES_BURST) // 2):
            await talker.hear_type("holders")
        await talker.close()
    await insiders[0].enter(running)
    assert paces.delay_s(member, clock.now) > 0
    other = (insiders[1].room_id, NodeId(insiders[1].key.public))
    assert paces.delay_s(other, clock.now) == 0


async def test_member_asks_for_the_registry_so_often_and_then_slowly(running, insiders, clock):
    path = f"/rooms/{insiders[0].room_id.hex()}/registry"

    async def ask(welcome) -> int:
        bearer = {"Authorization": f"Bearer {welcome['session']}"}
        return (await running.get(path, headers=bearer))[0]

    talker, welcome = await insiders[0].enter(running)
    for _ in range(int(TRACKER_REGISTRY_REQUESTS_BURST)):
        assert await ask(welcome) == 404
    assert await ask(welcome) == BUSY
    await talker.close()
    back, again = await insiders[0].enter(running)
    assert await ask(again) == BUSY
    neighbour, other = await insiders[1].enter(running)
    assert await ask(other) == 404
    clock.now += 1.01 / TRACKER_REGISTRY_REQUESTS_PER_S
    assert await ask(again) == 404
    assert not back.socket.closed
    assert not neighbour.socket.closed


async def test_body_whose_sender_is_removed_before_it_ends_is_not_written(running, insider_of):
    admin, guest = insider_of(1), insider_of(2).invited(("member", "publisher"))
    boss, _ = await admin.enter(running)
    talker, welcome = await guest.enter(running)
    path = f"/rooms/{guest.room_id.hex()}/registry"
    bearer = {"Authorization": f"Bearer {welcome['session']}", "If-None-Match": "*"}

    async def slow_body():
        yield b'{"n":'
        unsigned = Revocation(admin.room_id, 1, NodeId(guest.key.public), 1, admin.chain)
        await boss.say(type="revoke", revocation=unsigned.signed_by(admin.key).to_json())
        await talker.hear_type("refused")
        yield b"1}"

    async with running.http.put(running.url + path, data=slow_body(), headers=bearer) as response:
        assert response.status == 401
    assert running.tracker._registry._documents.registry(guest.room_id) is None


async def test_session_ends_with_its_membership_though_its_socket_is_gone(running, insider_of):
    insider = insider_of(1)
    other, _ = await insider_of(2).enter(running)
    talker, welcome = await insider.enter(running)
    guest = running.tracker._room._rooms.guests(insider.room_id)[1]
    await talker.close()
    await other.hear_type("left")
    object.__setattr__(guest.member, "not_after", 1)
    bearer = {"Authorization": f"Bearer {welcome['session']}"}
    assert (await running.get(f"/rooms/{insider.room_id.hex()}/registry", headers=bearer))[0] == 401


async def test_seek_names_so_many_and_no_more(running, insiders, monkeypatch):
    monkeypatch.setattr("dreamer.protocol.swarm.holders.TRACKER_SEEK_MAX_NODES", 2)
    talkers = [(await insider.enter(running))[0] for insider in insiders[:4]]
    for talker in talkers:
        await talker.say(type="announce", have=[SWARM])
        await talker.say(type="seek", swarm=SWARM)
        await talker.hear_type("holders")
    asker, _ = await insiders[4].enter(running)
    await asker.say(type="seek", swarm=SWARM)
    assert len((await asker.hear_type("holders"))["nodes"]) == 2


async def test_member_in_too_many_swarms_is_told_and_stays(running, insiders, monkeypatch):
    monkeypatch.setattr("dreamer.tracker.room.rooms.TRACKER_MAX_SWARMS_PER_MEMBER", 2)
    talker, _ = await insiders[0].enter(running)
    await talker.say(type="announce", have=[f"{n:040x}" for n in range(3)])
    said = await talker.hear_type("error")
    assert (said["code"], said["message"]) == ("forbidden", "a node may be in 2 swarms")
    await talker.say(type="announce", gone=[f"{0:040x}"], have=[f"{2:040x}"])
    asker, _ = await insiders[1].enter(running)
    await asker.say(type="seek", swarm=f"{2:040x}")
    assert (await asker.hear_type("holders"))["nodes"] == [insiders[0].hex]
