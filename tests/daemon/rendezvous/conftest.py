"""Nodes with a session each at a real tracker; scripted ones where the tracker must misbehave."""

from __future__ import annotations

import asyncio
import random
from contextlib import asynccontextmanager, suppress

import aiohttp
import pytest
from aiohttp import web

from dreamer.daemon.rendezvous.session import TrackerSession
from dreamer.protocol.ids import NodeId, RoomId
from dreamer.protocol.rooms.card import RoomCard
from dreamer.protocol.rooms.certificate import ALL_ROLES, invitation, node_certificate
from dreamer.protocol.rooms.keys import SigningKey
from dreamer.tracker.app import Tracker
from dreamer.tracker.room.documents import Documents

DEADLINE_S = 10.0
NOW = 1_700_000_000.0


class Quick:
    """Jitter that makes every pause a hundredth of what it would be."""

    def uniform(self, _a: float, _b: float) -> float:
        return 0.01


class Node:
    """One node's session, the events that came, and waiting for one of them."""

    def __init__(self, http, url: str, number: int, roles=None, room_seed: int = 100) -> None:
        self.room_key = SigningKey(bytes([room_seed]) * 32)
        self.key = SigningKey(bytes([number]) * 32)
        self.node_id = NodeId(self.key.public)
        self.room_id = RoomId(self.room_key.public)
        self.chain = self._created() if roles is None else self._invited(roles)
        card = RoomCard(self.room_id, "team", (), None, None, b"s" * 32)
        self.events: asyncio.Queue = asyncio.Queue()
        self.session = TrackerSession(
            http, url, card, self.chain, self.key, Quick(), self.events.put_nowait
        )

    def _created(self):
        own = node_certificate(self.room_id, self.key.public, ALL_ROLES, NOW, self.room_key)
        return (own,)

    def _invited(self, roles, lasts_s: float = 1e9):
        invited = SigningKey(b"i" * 32)
        upper = invitation(self.room_id, invited, roles, NOW, lasts_s, 1, b"i" * 16, self.room_key)
        return (upper, node_certificate(self.room_id, self.key.public, roles, NOW, invited))

    async def next(self, kind: type):
        """The next event of a kind, whatever comes before it."""
        async with asyncio.timeout(DEADLINE_S):
            while not isinstance(event := await self.events.get(), kind):
                pass
        return event

    @asynccontextmanager
    async def running(self, wait: bool = True):
        task = asyncio.create_task(self.session.run())
        try:
            if wait:
                await self.session.wait_connected(DEADLINE_S)
            yield self
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


@asynccontextmanager
async def serve(app: web.Application):
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@pytest.fixture
async def http():
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def tracker_url(tmp_path):
    documents = Documents(tmp_path / "tracker")
    try:
        async with serve(Tracker(documents, random.Random(1)).web_app()) as url:
            yield url
    finally:
        documents.close()


@pytest.fixture
def make_node(http, tracker_url):
    return lambda number, **options: Node(http, tracker_url, number, **options)


@pytest.fixture
def node_at(http):
    return lambda url, number=1, **options: Node(http, url, number, **options)


@pytest.fixture
def scripted():
    """Serve a tracker that does on ``/room`` what a coroutine says."""

    @asynccontextmanager
    async def start(script):
        async def room(request: web.Request) -> web.WebSocketResponse:
            socket = web.WebSocketResponse(timeout=1)
            await socket.prepare(request)
            with suppress(ConnectionError):
                await script(socket)
            await socket.close()
            return socket

        app = web.Application()
        app.router.add_get("/room", room)
        async with serve(app) as url:
            yield url

    return start
