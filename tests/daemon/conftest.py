"""A node kept in memory, with the real API served over it, and homes that are in a real room."""

from __future__ import annotations

import asyncio
import itertools
import random
from contextlib import asynccontextmanager
from dataclasses import replace
from types import SimpleNamespace

import pytest
from in_memory.served import ServedNode

from dreamer.daemon.identity import NodeIdentity
from dreamer.daemon.links.ice import IceSettings
from dreamer.daemon.room.book import RoomBook
from dreamer.daemon.room.parts import RoomParts
from dreamer.daemon.room.session import RoomSession
from dreamer.daemon.sharing.library import Library
from dreamer.daemon.state import State
from dreamer.daemon.tasks import TaskSet


@pytest.fixture
def served(tmp_path):
    one = ServedNode(tmp_path / "home").start()
    yield one
    one.stop()


@pytest.fixture
def served_by_tcp(tmp_path):
    one = ServedNode(tmp_path / "home", token="s3cret", tcp=True).start()
    yield one
    one.stop()


class RoomNode:
    """A home, and its session in the room, at all trackers or only some."""

    def __init__(self, root, name: str, http) -> None:
        self.home = root / name
        self.http = http
        self.identity = NodeIdentity.load_or_create(self.home)
        self.id = self.identity.node_id
        self.book = RoomBook(self.home, self.identity)
        self.state = State(self.home / "state.db")
        self.tasks = TaskSet()

    @asynccontextmanager
    async def inside(self, *trackers):
        """Be in the room for a while; without ``trackers``, at all of it."""
        membership = self.book.list()[0]
        if trackers:
            card = replace(membership.card, trackers=tuple(one.url for one in trackers))
            membership = replace(membership, card=card)
        session = RoomSession(membership, self._parts())
        running = asyncio.create_task(session.run())
        try:
            await session.wait_connected()
            yield session
        finally:
            session.close()
            running.cancel()
            await asyncio.wait([running])

    def _parts(self) -> RoomParts:
        return RoomParts(
            identity=self.identity,
            http=self.http,
            transport=SimpleNamespace(new_link=lambda: 1, send=lambda command: None),
            state=self.state,
            places=None,
            library=Library(),
            ice=IceSettings(),
            capabilities=dict,
            damaged=print,
            numbers=itertools.count(1),
            rng=random.Random(1),
            tasks=self.tasks,
        )

    async def close(self) -> None:
        await self.tasks.close()
        self.state.close()


@pytest.fixture
def room_node():
    """``room_node(root, name, http)`` makes the home of a node that a test puts into a room."""
    return RoomNode
