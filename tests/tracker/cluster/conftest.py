"""A bus in memory that can be broken."""

from __future__ import annotations

import asyncio

import pytest

from dreamer.tracker.cluster.bus import BusError, Reading, Seen


class Post:
    """What buses in memory have in common: the table, the letterboxes, and whether it works."""

    def __init__(self) -> None:
        self.swarms: dict = {}
        self.boxes: dict[str, asyncio.Queue[bytes]] = {}
        self.broken = False
        self.trades: list = []
        self.held: asyncio.Event | None = None

    def bus(self) -> MemoryBus:
        return MemoryBus(self)


class MemoryBus:
    """A bus whose table is a dict."""

    def __init__(self, post: Post) -> None:
        self._post = post

    async def open(self, me) -> None:
        self._check()
        self._me = me
        self._post.boxes[me] = asyncio.Queue()

    async def trade(self, tell, ask) -> Reading:
        if self._post.held is not None and ask:
            await self._post.held.wait()
        self._check()
        self._post.trades.append((dict(tell), list(ask)))
        for info_hash, counts in tell.items():
            self._post.swarms.setdefault(info_hash, {})[self._me] = counts
        seen = tuple(Seen(each, 0.0, True) for each in self._post.boxes)
        return Reading(seen, {each: dict(self._post.swarms.get(each, {})) for each in ask})

    async def send(self, letters) -> None:
        self._check()
        for to, letter in letters:
            if to in self._post.boxes:
                self._post.boxes[to].put_nowait(letter)

    async def hear(self) -> bytes:
        return await self._post.boxes[self._me].get()

    async def leave(self) -> None:
        self._post.boxes.pop(self._me, None)

    async def close(self) -> None:
        pass

    def _check(self) -> None:
        if self._post.broken:
            raise BusError("broken")


@pytest.fixture
def post() -> Post:
    return Post()
