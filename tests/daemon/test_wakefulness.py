"""Sleep, as two clocks show it."""

from __future__ import annotations

import asyncio

from dreamer.daemon.room import session as rooms
from dreamer.daemon.wakefulness import Wakefulness, asleep_s
from dreamer.protocol.limits import SLEEP_NOTICED_S


def test_sleep_is_noticed_once() -> None:
    asleep = [100.0]
    awake = Wakefulness(lambda: asleep[0])
    assert not awake.slept()
    asleep[0] += 3600.0
    assert awake.slept()
    assert not awake.slept()


def test_clocks_that_drift_apart_a_little_are_no_sleep() -> None:
    asleep = [0.0]
    awake = Wakefulness(lambda: asleep[0])
    for _ in range(100):
        asleep[0] += SLEEP_NOTICED_S / 2
        assert not awake.slept()


def test_this_machine_tells_how_long_it_slept() -> None:
    assert asleep_s() > -1.0
    assert not Wakefulness().slept()


async def test_a_room_whose_machine_slept_asks_its_links_and_comes_back_to_its_trackers(
    monkeypatch,
) -> None:
    woken: list[str] = []

    class Part:
        def __init__(self, name: str) -> None:
            self.name = name

        def woke(self) -> None:
            woken.append(self.name)

        def tick(self, *present) -> None:
            if woken:
                raise asyncio.CancelledError

    class Sleeper:
        def slept(self) -> bool:
            return True

    monkeypatch.setattr(rooms, "TICK_S", 0.0)
    room = rooms.RoomSession.__new__(rooms.RoomSession)
    room.links, room.trackers, room.neighbours = Part("links"), Part("trackers"), Part("gossip")
    room.sessions, room._wakefulness = [], Sleeper()
    room.refresh_presence = lambda: None
    task = asyncio.ensure_future(room.run())
    await asyncio.wait([task], timeout=10)
    assert woken == ["links", "trackers"]
