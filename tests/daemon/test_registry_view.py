"""How a node follows a registry that others change: soon, but no more than it must."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from dreamer.daemon.room.registry_view import RegistryView
from dreamer.daemon.tasks import TaskSet
from dreamer.protocol.errors import RemoteError
from dreamer.protocol.registry_limits import (
    REGISTRY_FOLLOW_BYTES_PER_S,
    REGISTRY_FOLLOW_MAX_S,
    REGISTRY_MEND_RETRY_MAX_S,
    REGISTRY_MEND_RETRY_S,
)


class Client:
    """A registry that changes with each reading."""

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = size_bytes
        self.reads = 0
        self.away = False
        self.mended = 0
        self.stuck = 0

    async def mend(self):
        self.mended += 1
        if self.mended <= self.stuck:
            raise RemoteError("others are writing")

    async def refresh(self):
        self.reads += 1
        if self.away:
            raise RemoteError("away")
        registry = SimpleNamespace(models={})
        return SimpleNamespace(document=self.reads, registry=registry, reports=())

    async def recall(self):
        return None


class Follower:
    def __init__(self, size_bytes: int) -> None:
        self.client = Client(size_bytes)
        self.tasks = TaskSet()
        self.pauses: list[float] = []
        self.go_on = asyncio.Event()
        self.paused = asyncio.Event()
        self.view = RegistryView("lab", self.client, self.tasks, self._sleep)

    async def _sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.paused.set()
        await self.go_on.wait()

    async def settle(self) -> None:
        self.go_on.set()
        while self.tasks._tasks:
            await asyncio.gather(*self.tasks._tasks, return_exceptions=True)


@pytest.fixture
def follower():
    return Follower(3 * REGISTRY_FOLLOW_BYTES_PER_S)


async def test_first_change_is_read_at_once_and_a_hundred_more_with_one_reading(follower):
    follower.view.moved()
    await asyncio.wait_for(follower.paused.wait(), 10)
    assert (follower.client.reads, follower.pauses) == (1, [3.0])
    for _ in range(100):
        follower.view.moved()
    await follower.settle()
    assert follower.client.reads == 2


async def test_who_asks_for_something_waits_for_nothing(follower):
    follower.view.moved()
    await asyncio.wait_for(follower.paused.wait(), 10)
    assert (await follower.view.read()).document == 2
    await follower.settle()


async def test_largest_registry_is_followed_too():
    follower = Follower(10**9)
    follower.view.moved()
    await follower.settle()
    assert follower.pauses == [REGISTRY_FOLLOW_MAX_S]


async def test_registry_that_is_away_is_read_again_with_the_next_change(follower):
    follower.client.away = True
    follower.view.moved()
    await follower.settle()
    follower.client.away = False
    heard = []
    follower.view.changed.append(lambda: heard.append(follower.view.latest.document))
    follower.view.moved()
    await follower.settle()
    assert (follower.client.reads, heard) == (2, [2])


async def test_what_could_not_be_put_back_is_tried_again_though_nothing_moves():
    follower = Follower(0)
    follower.client.stuck = 9
    follower.view.moved()
    await asyncio.wait_for(follower.paused.wait(), 10)
    await follower.settle()
    assert (follower.client.reads, follower.client.mended) == (1, 10)
    waits = [pause for pause in follower.pauses if pause]
    assert waits[:3] == [REGISTRY_MEND_RETRY_S * 2**number for number in range(3)]
    assert waits[-1] == REGISTRY_MEND_RETRY_MAX_S


async def test_room_that_is_left_is_followed_and_mended_no_more(follower):
    follower.client.stuck = 1
    follower.view.moved()
    await asyncio.wait_for(follower.paused.wait(), 10)
    await asyncio.sleep(0)
    follower.view.close()
    await follower.settle()
    assert (follower.client.reads, follower.client.mended) == (1, 1)
