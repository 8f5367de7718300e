"""Many nodes whose tracker restarts, in virtual time: all come back, and not in one moment."""

from __future__ import annotations

import asyncio
import selectors
from collections import Counter
from random import Random

import pytest

from dreamer.daemon.rendezvous import session as module
from dreamer.daemon.rendezvous.messages import Welcome
from dreamer.daemon.rendezvous.session import TrackerSession
from dreamer.protocol.errors import RemoteError
from dreamer.protocol.ids import RoomId
from dreamer.protocol.rooms.card import RoomCard
from dreamer.protocol.rooms.keys import SigningKey
from dreamer.protocol.tracker_limits import TRACKER_BACKOFF_MAX_S, TRACKER_RETURN_S

NODES = 300


class Leaping(selectors.DefaultSelector):
    """A selector that leaps to the next timer instead of waiting for it."""

    now = 0.0

    def select(self, timeout=None):
        if timeout:
            self.now += timeout
        return super().select(0)


def in_virtual_time(work) -> None:
    """Run a coroutine on a loop whose clock only moves when everybody waits."""
    selector = Leaping()
    loop = asyncio.SelectorEventLoop(selector)
    loop.time = lambda: selector.now
    try:
        loop.run_until_complete(work)
    finally:
        loop.close()


class Socket:
    """A connection that stands until the tracker is ``up`` no more."""

    def __init__(self, tracker) -> None:
        self._tracker = tracker

    async def send_str(self, text: str) -> None: ...

    async def close(self) -> None: ...

    def __aiter__(self):
        return self

    async def __anext__(self):
        await self._tracker.down.wait()
        raise StopAsyncIteration


class RestartedTracker:
    """Lets everybody in while it is up, and notes when they come."""

    def __init__(self) -> None:
        self.down = asyncio.Event()
        self.arrivals: list[float] = []
        self.attempts: list[float] = []

    async def log_in(self, *_):
        now = asyncio.get_running_loop().time()
        self.attempts.append(now)
        if self.down.is_set():
            raise RemoteError("connection refused")
        self.arrivals.append(now)
        return Socket(self), Welcome("token", ())


async def outage(seconds: float, monkeypatch) -> RestartedTracker:
    """Have a tracker die and return that many seconds later; wait for everybody to be back."""
    tracker = RestartedTracker()
    monkeypatch.setattr(module, "log_in", tracker.log_in)
    # What it lends besides is not the matter here.
    monkeypatch.setattr(module.TurnLease, "keep", lambda self: asyncio.Event().wait())
    key = SigningKey(b"\1" * 32)
    card = RoomCard(RoomId(key.public), "team", (), None, None, b"s" * 32)
    sessions = [
        TrackerSession(None, "http://one", card, (), key, Random(number), lambda event: None)
        for number in range(NODES)
    ]
    running = [asyncio.create_task(session.run()) for session in sessions]
    await asyncio.sleep(100.0)
    assert len(tracker.arrivals) == NODES
    tracker.arrivals.clear()
    tracker.attempts.clear()
    tracker.down.set()
    await asyncio.sleep(seconds)
    assert not any(session.connected for session in sessions)
    tracker.down.clear()
    returned_at = asyncio.get_running_loop().time()
    await asyncio.sleep(TRACKER_BACKOFF_MAX_S + 1.0)
    assert all(session.connected for session in sessions)
    for task in running:
        task.cancel()
    await asyncio.wait(running)
    tracker.arrivals = [at - returned_at for at in tracker.arrivals]
    return tracker


@pytest.mark.parametrize("seconds", [60.0, 600.0])
def test_nodes_come_back_spread_over_many_seconds_after_a_long_outage(seconds, monkeypatch):
    async def play():
        tracker = await outage(seconds, monkeypatch)
        by_second = Counter(int(at) for at in tracker.arrivals)
        assert len(tracker.arrivals) == NODES
        assert max(by_second.values()) < NODES / 10
        assert max(tracker.arrivals) <= TRACKER_BACKOFF_MAX_S

    in_virtual_time(play())


def test_short_restart_is_over_in_seconds_and_not_one_moment(monkeypatch):
    async def play():
        tracker = await outage(0.1, monkeypatch)
        by_tenth = Counter(int(at * 10) for at in tracker.arrivals)
        assert max(tracker.arrivals) <= 2 * TRACKER_RETURN_S
        assert max(by_tenth.values()) < NODES / 6

    in_virtual_time(play())


def test_tracker_that_is_away_for_long_is_asked_ever_more_seldom(monkeypatch):
    async def play():
        tracker = await outage(3600.0, monkeypatch)
        # A minute at the most between two attempts, half of one on average: 150 in an hour would
        # be too many for any node, and forty too few for it to be back soon.
        assert 60 * NODES < len(tracker.attempts) < 150 * NODES

    in_virtual_time(play())
