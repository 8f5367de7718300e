"""The tracker put together: the one module that knows all its parts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from random import Random

from aiohttp import web

from dreamer.protocol.limits import TRACKER_REGISTRY_MAX_BYTES, TRACKER_SWEEP_INTERVAL_S
from dreamer.tracker.announce import AnnounceHandler
from dreamer.tracker.documents import Documents
from dreamer.tracker.registry import RegistryHandler
from dreamer.tracker.room_socket import RoomHandler
from dreamer.tracker.rooms import Rooms
from dreamer.tracker.sessions import Sessions
from dreamer.tracker.stats import StatsHandler, Tally
from dreamer.tracker.swarms import Swarms
from dreamer.tracker.terms import Terms

_ABOUT = "This is a dreamer-tracker. WebTorrent clients announce at /announce.\n"


class Tracker:
    """A rendezvous server over one store, ready to be served by aiohttp."""

    def __init__(self, documents: Documents, rng: Random, terms: Terms | None = None) -> None:
        tally, rooms = Tally(), Rooms()
        self._swarms = Swarms(rng)
        self._sessions = Sessions()
        self._announce = AnnounceHandler(self._swarms, tally)
        self._room = RoomHandler(rooms, self._sessions, documents, rng, terms or Terms())
        self._registry = RegistryHandler(rooms, self._sessions, documents)
        self._stats = StatsHandler(self._swarms, tally, documents.probe)

    def web_app(self) -> web.Application:
        """Return the routes and the background work, for one server."""
        app = web.Application(client_max_size=TRACKER_REGISTRY_MAX_BYTES)
        app.router.add_get("/", self._front)
        app.router.add_get("/announce", self._announced)
        app.router.add_get("/room", self._entered)
        app.router.add_get("/rooms/{room}/registry", self._registry.get)
        app.router.add_put("/rooms/{room}/registry", self._registry.put)
        app.router.add_get("/stats", self._stats.stats)
        app.router.add_get("/metrics", self._stats.metrics)
        app.router.add_get("/health", self._stats.health)
        app.router.add_get("/ready", self._stats.ready)
        app.cleanup_ctx.append(self._sweeping)
        app.on_shutdown.append(self._close)
        return app

    def sweep(self, now: float) -> None:
        """Drop what has aged out; ``now`` is of the steady clock."""
        self._swarms.prune(now)
        self._sessions.prune(now)
        self._room.sweep(now)

    async def _front(self, request: web.Request) -> web.StreamResponse:
        if _wants_websocket(request):
            return await self._announce.handle(request)
        return web.Response(text=_ABOUT)

    async def _announced(self, request: web.Request) -> web.StreamResponse:
        _demand_websocket(request)
        return await self._announce.handle(request)

    async def _entered(self, request: web.Request) -> web.StreamResponse:
        _demand_websocket(request)
        return await self._room.handle(request)

    async def _sweeping(self, _app: web.Application) -> AsyncIterator[None]:
        sweeper = asyncio.create_task(self._sweep_for_ever())
        yield
        sweeper.cancel()
        await asyncio.wait([sweeper])

    async def _sweep_for_ever(self) -> None:
        while True:
            await asyncio.sleep(TRACKER_SWEEP_INTERVAL_S)
            self.sweep(time.monotonic())

    async def _close(self, _app: web.Application) -> None:
        await asyncio.gather(self._announce.close(), self._room.close())


def _wants_websocket(request: web.Request) -> bool:
    return web.WebSocketResponse().can_prepare(request).ok


def _demand_websocket(request: web.Request) -> None:
    if not _wants_websocket(request):
        raise web.HTTPUpgradeRequired(
            text="this address is for WebSockets: use ws:// or wss://\n",
            headers={"Upgrade": "websocket"},
        )
