"""What one member can't do to another by way of the tracker."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from dreamer.protocol.tracker_limits import TRACKER_FORWARDED_MAX_BYTES
from dreamer.tracker.room import wire as room_wire

SWARM = "ab" * 20


class Deaf:
    """Keeps the tracker from sending to a member, as one whose connection is stuck."""

    def __init__(self, running, monkeypatch) -> None:
        self._handler = running.tracker._room
        self._gate = asyncio.Event()
        self._monkeypatch = monkeypatch

    def stuff(self) -> None:
        """Nothing more goes out to the members that are there now."""
        for socket in self._handler._sockets.values():
            send = socket.response.send_str

            async def wait(text, send=send):
                await self._gate.wait()
                await send(text)

            self._monkeypatch.setattr(socket.response, "send_str", wait)

    def heal(self) -> None:
        self._gate.set()


class Counting:
    """The messages of rooms, with one of them counted."""

    def __init__(self, holders) -> None:
        self.holders = holders

    def __getattr__(self, name: str):
        return getattr(room_wire, name)


@pytest.fixture
def deaf(running, monkeypatch):
    return Deaf(running, monkeypatch)


async def test_bursting_sender_does_not_have_its_target_cut_off(running, insiders, deaf):
    one, two, three = insiders[:3]
    target, _ = await one.enter(running)
    deaf.stuff()
    burst, _ = await two.enter(running)
    modest, _ = await three.enter(running)
    await burst.hear_type("joined")
    large = {"sdp": "x" * 60_000}
    for _ in range(400):  # 24 MB: more than the outbox of a member takes
        await burst.say(type="signal", to=one.hex, body=large)
    for _ in range(400 - TRACKER_FORWARDED_MAX_BYTES // 60_000):
        assert await burst.hear() == {"type": "unreachable", "node": one.hex}
    await modest.say(type="signal", to=one.hex, body={"n": 1})
    await modest.say(type="seek", swarm=SWARM)
    assert (await modest.hear())["type"] == "holders"
    deaf.heal()
    while (said := await target.hear_type("signal"))["from"] != three.hex:
        assert said["body"] == large
    assert said["body"] == {"n": 1}


async def test_members_messages_in_one_piece_give_others_their_turn(running, insiders, monkeypatch):
    taken = []

    def holders(*said) -> str:
        taken.append(said)
        return room_wire.holders(*said)

    talkative, _ = await insiders[0].enter(running)
    other, _ = await insiders[1].enter(running)
    monkeypatch.setattr("dreamer.tracker.room.socket.room_wire", Counting(holders))
    for _ in range(500):  # so little that the loop isn't given up meanwhile
        await talkative.say(type="seek", swarm=SWARM)
    await other.say(type="seek", swarm=SWARM)
    await other.hear_type("holders")
    assert len(taken) < 500
    for _ in range(500):
        await talkative.hear_type("holders")


async def test_member_that_does_not_read_the_trackers_own_news_is_cut_off(
    running, insiders, deaf, monkeypatch
):
    monkeypatch.setattr("dreamer.tracker.room.socket.TRACKER_ROOM_OUTBOX_MAX_BYTES", 20_000)
    stuck, _ = await insiders[0].enter(running)
    deaf.stuff()
    other, _ = await insiders[1].enter(running)
    for _ in range(400):  # each is answered with a hundred bytes
        await stuck.say(type="seek", swarm=SWARM)
    assert (await other.hear_type("left"))["node"] == insiders[0].hex
    deaf.heal()
    assert (await stuck.socket.receive(timeout=5)).type is not aiohttp.WSMsgType.CLOSE


async def test_presence_is_told_at_once_and_then_its_last_state(running, insiders, monkeypatch):
    monkeypatch.setattr("dreamer.tracker.room.presence.TRACKER_PRESENCE_INTERVAL_S", 0.2)
    watcher, _ = await insiders[0].enter(running)
    restless, _ = await insiders[1].enter(running)
    await watcher.hear_type("joined")
    for number in range(500):
        await restless.say(type="presence", capabilities={"n": number})
    heard = []
    while not heard or heard[-1] < 499:
        heard.append((await watcher.hear_type("joined"))["capabilities"]["n"])
    assert heard[0] == 0
    assert len(heard) < 20


async def test_member_that_leaves_in_its_rest_is_told_of_no_more(running, insiders):
    watcher, _ = await insiders[0].enter(running)
    restless, _ = await insiders[1].enter(running)
    for number in range(3):
        await restless.say(type="presence", capabilities={"n": number})
    await restless.close()
    await watcher.hear_type("left")
    pace = running.tracker._room._presence
    assert (pace._resting, pace._late) == ({}, {})


@pytest.mark.parametrize("value", ["NaN", '"\\ud800"', "[" * 980 + "]" * 980])
async def test_what_others_could_not_read_is_refused_to_its_sender(running, insiders, value):
    """In a welcome it would keep every newcomer out, however sound the rest of it is."""
    sender, _ = await insiders[0].enter(running)
    await sender.socket.send_str(f'{{"type":"presence","capabilities":{{"x":{value}}}}}')
    assert (await sender.hear())["type"] == "error"
    _, welcome = await insiders[1].enter(running)
    assert welcome["members"] == [{"node": insiders[0].hex, "capabilities": {}}]
