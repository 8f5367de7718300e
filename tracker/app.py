"""The tracker put together: the one module that knows all its parts."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from random import Random

from aiohttp import web

from dreamer.protocol.tracker_limits import (
    TRACKER_BACKLOG,
    TRACKER_REGISTRY_MAX_BYTES,
    TRACKER_SOCKETS_PER_ADDRESS,
    TRACKER_STOP_TIMEOUT_S,
    TRACKER_SWEEP_INTERVAL_S,
    TRACKER_TICK_S,
)
from dreamer.tracker.company import Company
from dreamer.tracker.door import Door
from dreamer.tracker.places import Places
from dreamer.tracker.public.announce import AnnounceHandler
from dreamer.tracker.public.elsewhere import Elsewhere
from dreamer.tracker.public.http_announce import HttpAnnounce
from dreamer.tracker.public.local_peers import LocalPeers
from dreamer.tracker.public.swarms import Swarms
from dreamer.tracker.public.tcp_swarms import TcpSwarms
from dreamer.tracker.room.documents import Documents
from dreamer.tracker.room.lends import Lends
from dreamer.tracker.room.presign import PresignHandler
from dreamer.tracker.room.registry import RegistryHandler
from dreamer.tracker.room.reports import ReportHandler
from dreamer.tracker.room.rooms import Rooms
from dreamer.tracker.room.session_auth import SessionAuth
from dreamer.tracker.room.sessions import Sessions
from dreamer.tracker.room.socket import RoomHandler
from dreamer.tracker.room.sweep import Sweeper
from dreamer.tracker.room.terms import Terms
from dreamer.tracker.room.turn import TurnHandler
from dreamer.tracker.stats import StatsHandler, Tally
from dreamer.tracker.workers.crew import Crew

_ABOUT = "This is a dreamer-tracker. WebTorrent and BitTorrent clients announce at /announce.\n"


class Tracker:
    """A rendezvous server over one store: ``listening`` serves it whole."""

    def __init__(
        self,
        documents: Documents,
        rng: Random,
        terms: Terms | None = None,
        lends: Lends | None = None,
        sockets_per_address: int = TRACKER_SOCKETS_PER_ADDRESS,
        elsewhere: Elsewhere | None = None,
        crew: Crew | None = None,
    ) -> None:
        """``elsewhere`` is the rest of a cluster, ``crew`` the workers of this tracker.

        A tracker that runs alone has neither.
        """
        tally, rooms = Tally(), Rooms()
        self._swarms = Swarms(rng, elsewhere.changed if elsewhere else None)
        self._sessions = Sessions()
        self._announce = AnnounceHandler(self._swarms, tally, elsewhere=elsewhere)
        self._tcp_swarms = TcpSwarms(rng)
        self._http_announce = HttpAnnounce(self._tcp_swarms, tally)
        self._elsewhere = elsewhere
        self._crew = crew
        self._here = LocalPeers(self._swarms, tally, self._announce.deliver)
        self._room = RoomHandler(
            rooms, self._sessions, documents, rng, terms or Terms(), sockets_per_address > 0
        )
        auth = self._auth = SessionAuth(self._sessions)
        lends = lends or Lends()
        self._registry = RegistryHandler(rooms, auth, documents)
        self._turn = TurnHandler(auth, lends.turn)
        self._presign = PresignHandler(auth, lends.origins)
        self._reports = ReportHandler(rooms, auth, documents, lends.origins)
        self._sweeper = Sweeper(documents, lends.origins, lends.sweep, rng)
        self._stats = StatsHandler(
            self._swarms,
            self._tcp_swarms,
            tally,
            documents.probe,
            _company(elsewhere, crew),
        )
        self._sockets_per_address = sockets_per_address

    @asynccontextmanager
    async def listening(self, host: str, port: int) -> AsyncGenerator[int, None]:
        """Serve everything on one port, and yield its number; say goodbye to all at the end.

        Raises:
            OSError: the port can't be had.
        """
        runner = web.AppRunner(
            self.web_app(), access_log=None, shutdown_timeout=TRACKER_STOP_TIMEOUT_S
        )
        await runner.setup()
        assert runner.server is not None, "it is made by setup"
        places = Places(self._sockets_per_address)
        door = Door(self._announce, runner.server, places, self._crew, self._http_announce)
        try:
            if self._crew is not None:
                await self._crew.start()
            server = await _listen(door, host, port)
            ticker = asyncio.create_task(self._tick_for_ever(door))
            try:
                yield server.sockets[0].getsockname()[1]
            finally:
                ticker.cancel()
                server.close()
                door.close()
                await asyncio.wait([ticker])
        finally:
            await runner.cleanup()

    def web_app(self) -> web.Application:
        """Return what aiohttp serves, all but the public websockets, and the background work."""
        app = web.Application(client_max_size=TRACKER_REGISTRY_MAX_BYTES)
        app.router.add_get("/", self._front)
        app.router.add_get("/announce", self._announced)
        app.router.add_get("/room", self._entered)
        app.router.add_get("/rooms/{room}/registry", self._registry.get)
        app.router.add_put("/rooms/{room}/registry", self._registry.put)
        app.router.add_get("/rooms/{room}/turn", self._turn.get)
        app.router.add_post("/rooms/{room}/presign", self._presign.post)
        app.router.add_post("/rooms/{room}/report", self._reports.post)
        app.router.add_get("/stats", self._stats.stats)
        app.router.add_get("/metrics", self._stats.metrics)
        app.router.add_get("/health", self._stats.health)
        app.router.add_get("/ready", self._stats.ready)
        app.cleanup_ctx.append(self._sweeping)
        app.cleanup_ctx.append(self._sweeping_origins)
        if self._elsewhere is not None:
            app.cleanup_ctx.append(partial(self._sharing, self._elsewhere))
        app.on_response_prepare.append(_last_of_its_connection)
        app.on_shutdown.append(self._close)
        return app

    def sweep(self, now: float) -> None:
        """Drop what has aged out; ``now`` is of the steady clock."""
        self._swarms.prune(now)
        self._tcp_swarms.prune(now)
        self._sessions.prune(now)
        self._room.sweep(now)

    async def _front(self, _request: web.Request) -> web.StreamResponse:
        return web.Response(text=_ABOUT)

    async def _announced(self, _request: web.Request) -> web.StreamResponse:
        # The door lets through what neither opens a websocket nor asks as clients over TCP do.
        raise _upgrade_required()

    async def _entered(self, request: web.Request) -> web.StreamResponse:
        if not web.WebSocketResponse().can_prepare(request).ok:
            raise _upgrade_required()
        return await self._room.handle(request)

    async def _sweeping(self, _app: web.Application) -> AsyncIterator[None]:
        sweeper = asyncio.create_task(self._sweep_for_ever())
        yield
        sweeper.cancel()
        await asyncio.wait([sweeper])

    async def _sweeping_origins(self, _app: web.Application) -> AsyncIterator[None]:
        sweeper = asyncio.create_task(self._sweeper.run())
        yield
        sweeper.cancel()
        await asyncio.wait([sweeper])

    async def _sharing(self, elsewhere: Elsewhere, _app: web.Application) -> AsyncIterator[None]:
        sharing = asyncio.create_task(elsewhere.run(self._here))
        await elsewhere.started()
        yield
        sharing.cancel()
        await asyncio.wait([sharing])

    async def _sweep_for_ever(self) -> None:
        while True:
            await asyncio.sleep(TRACKER_SWEEP_INTERVAL_S)
            self.sweep(time.monotonic())

    async def _tick_for_ever(self, door: Door) -> None:
        while True:
            await asyncio.sleep(TRACKER_TICK_S)
            now = time.monotonic()
            door.sweep(now)
            self._announce.tick(now)

    async def _close(self, _app: web.Application) -> None:
        crew = [self._crew.close()] if self._crew else []
        await asyncio.gather(self._announce.close(), self._room.close(), *crew)


async def _listen(door: Door, host: str, port: int) -> asyncio.Server:
    loop = asyncio.get_running_loop()
    if host == "::" and socket.has_dualstack_ipv6():
        # asyncio would take it for every address of IPv6 alone, and there is one --listen.
        everywhere = socket.create_server(
            (host, port), family=socket.AF_INET6, backlog=TRACKER_BACKLOG, dualstack_ipv6=True
        )
        return await loop.create_server(door, sock=everywhere, backlog=TRACKER_BACKLOG)
    return await loop.create_server(door, host, port, backlog=TRACKER_BACKLOG)


def _company(elsewhere: Elsewhere | None, crew: Crew | None) -> Company:
    return Company(elsewhere, crew.counts, crew.serving) if crew else Company(elsewhere)


def _upgrade_required() -> web.HTTPException:
    return web.HTTPUpgradeRequired(
        text="this address is for WebSockets: use ws:// or wss://\n",
        headers={"Upgrade": "websocket"},
    )


async def _last_of_its_connection(_request: web.Request, response: web.StreamResponse) -> None:
    # A proxy that keeps a connection may open a websocket with its next request, when the door
    # doesn't listen any more.
    if not isinstance(response, web.WebSocketResponse):
        response.headers["Connection"] = "close"
        response.force_close()
