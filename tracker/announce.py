"""The WebTorrent tracker's websocket: what stock clients connect to on ``/announce``."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from itertools import islice

from aiohttp import WSCloseCode, web

from dreamer.protocol.limits import (
    TRACKER_BAD_MESSAGES_PER_SOCKET,
    TRACKER_OUTBOX_MAX_BYTES,
    TRACKER_SCRAPE_MAX_SWARMS,
)
from dreamer.tracker import wire
from dreamer.tracker.sockets import ClientSocket
from dreamer.tracker.stats import Tally
from dreamer.tracker.swarms import Swarms
from dreamer.tracker.wire import Announce, AnnounceError, Answer, Scrape


class AnnounceHandler:
    """Serves clients of public swarms; they meet in ``swarms`` and never wait for each other."""

    def __init__(
        self, swarms: Swarms, tally: Tally, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._swarms = swarms
        self._tally = tally
        self._clock = clock
        self._sockets: dict[int, ClientSocket] = {}

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """Serve one websocket until it closes."""
        socket = ClientSocket(request, TRACKER_OUTBOX_MAX_BYTES)
        await socket.open()
        self._sockets[socket.number] = socket
        self._tally.sockets += 1
        try:
            await self._serve(socket)
        finally:
            self._tally.sockets -= 1
            del self._sockets[socket.number]
            self._swarms.close(socket.number)
            await socket.close()
        return socket.response

    async def close(self) -> None:
        """Say goodbye to every client."""
        await asyncio.gather(
            *(socket.close(WSCloseCode.GOING_AWAY) for socket in self._sockets.values())
        )

    async def _serve(self, socket: ClientSocket) -> None:
        bad = 0
        async for message in socket.messages():
            self._tally.messages += 1
            try:
                self._take(socket, message)
            except AnnounceError as error:
                self._tally.refused += 1
                bad += 1
                socket.post(wire.failure(error))
                if bad >= TRACKER_BAD_MESSAGES_PER_SOCKET:
                    return

    def _take(self, socket: ClientSocket, message: str | bytes) -> None:
        said = wire.parse(message)
        match said:
            case Announce():
                self._announce(socket, said)
            case Answer():
                self._answer(socket, said)
            case Scrape():
                self._scrape(socket, said)

    def _announce(self, socket: ClientSocket, said: Announce) -> None:
        now = self._clock()
        peer = self._swarms.announce(socket.number, said, now)
        self._tally.announces += 1
        socket.post(wire.reply(said.info_hash, self._swarms.counts(said.info_hash)))
        if peer is None:
            return
        for target, offer in self._swarms.route(peer, said.offers, now):
            self._tally.offers += 1
            # Not awaited: a slow target mustn't hold up the one who announces.
            self._sockets[target.owner].forward(
                socket.number, wire.offer_to(said.info_hash, said.peer_id, offer)
            )

    def _answer(self, socket: ClientSocket, said: Answer) -> None:
        target = self._swarms.route_answer(socket.number, said, self._clock())
        if target is not None:
            self._tally.answers += 1
            self._sockets[target.owner].forward(socket.number, wire.answer_to(said))

    def _scrape(self, socket: ClientSocket, said: Scrape) -> None:
        asked = said.info_hashes
        if asked is None:
            some = islice(self._swarms, TRACKER_SCRAPE_MAX_SWARMS)
            asked = tuple(swarm.info_hash for swarm in some)
        socket.post(wire.scrape_reply({each: self._swarms.counts(each) for each in asked}))
