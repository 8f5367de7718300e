"""The WebTorrent tracker's websocket: what stock clients connect to on ``/announce``."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Hashable
from functools import partial
from itertools import islice
from math import ceil

from dreamer.protocol.ids import InfoHash
from dreamer.protocol.tracker_limits import (
    TRACKER_BAD_MESSAGES_PER_SOCKET,
    TRACKER_SCRAPE_MAX_SWARMS,
    TRACKER_SWEEP_INTERVAL_S,
    TRACKER_TICK_S,
)
from dreamer.tracker.public import framing, wire
from dreamer.tracker.public.elsewhere import Elsewhere
from dreamer.tracker.public.socket import PublicSocket
from dreamer.tracker.public.swarms import Peer, Swarms
from dreamer.tracker.public.wire import Announce, AnnounceError, Answer, Counts, Offer, Scrape
from dreamer.tracker.stats import Tally

_SLICES = int(TRACKER_SWEEP_INTERVAL_S / TRACKER_TICK_S)


class AnnounceHandler:
    """Serves clients of public swarms; they meet in ``swarms`` and never wait for each other."""

    def __init__(
        self,
        swarms: Swarms,
        tally: Tally,
        clock: Callable[[], float] = time.monotonic,
        elsewhere: Elsewhere | None = None,
    ) -> None:
        """``elsewhere`` is the rest of the cluster; a tracker that runs alone has none."""
        self._swarms = swarms
        self._elsewhere = elsewhere
        self._tally = tally
        self._clock = clock
        self._sockets: dict[int, PublicSocket] = {}
        self._to_look_at: list[PublicSocket] = []
        self._ticks = 0
        self._empty = asyncio.Event()

    def entered(self, socket: PublicSocket) -> None:
        """Welcome a client."""
        self._sockets[socket.number] = socket
        self._tally.sockets += 1

    def left(self, socket: PublicSocket) -> None:
        """Forget a client and its peers."""
        self._tally.sockets -= 1
        del self._sockets[socket.number]
        self._swarms.close(socket.number)
        if not self._sockets:
            self._empty.set()

    def take(self, socket: PublicSocket, message: bytearray) -> None:
        """Handle what a client says; one that keeps talking nonsense is hung up on."""
        self._tally.messages += 1
        try:
            self._take(socket, message)
        except AnnounceError as error:
            self._tally.refused += 1
            socket.bad += 1
            socket.post(wire.failure(error))
            if socket.bad >= TRACKER_BAD_MESSAGES_PER_SOCKET:
                socket.close(framing.POLICY)

    def tick(self, now: float) -> None:
        """Look after some of the sockets: called every ``TRACKER_TICK_S``, it comes to all.

        A hundred thousand at once would keep everybody waiting for milliseconds.
        """
        if not self._ticks % _SLICES:
            self._to_look_at = list(self._sockets.values())
        left = _SLICES - self._ticks % _SLICES
        self._ticks += 1
        for _ in range(ceil(len(self._to_look_at) / left)):
            self._to_look_at.pop().look(now)

    async def close(self) -> None:
        """Say goodbye to every client, and wait until all are gone."""
        sockets = list(self._sockets.values())
        for socket in sockets:
            socket.close(framing.GOING_AWAY)
        if sockets:
            self._empty.clear()
            # Each has a deadline of its own, at which it is cut off.
            await self._empty.wait()

    def _take(self, socket: PublicSocket, message: bytearray) -> None:
        said = wire.parse(message)
        if isinstance(said, Announce):
            self._announce(socket, said)
        elif isinstance(said, Answer):
            self._answer(socket, said)
        else:
            self._scrape(socket, said)

    def _announce(self, socket: PublicSocket, said: Announce) -> None:
        peer = self._swarms.announce(socket.number, said, self._clock())
        self._tally.announces += 1
        if self._elsewhere is None:
            self._introduce(socket, said, peer)
        else:
            self._elsewhere.when_known(
                (said.info_hash,), partial(self._introduce, socket, said, peer)
            )

    def _introduce(self, socket: PublicSocket, said: Announce, peer: Peer | None) -> None:
        socket.post(wire.reply(said.info_hash, self._counts(said.info_hash)))
        # It may have left while others were asked.
        if not said.offers or self._swarms.find(said.info_hash, said.peer_id) is not peer:
            return
        if peer is None:
            return
        offers = self._send_away(peer, said.offers)
        for target, offer in self._swarms.route(peer, offers, self._clock()):
            self._tally.offers += 1
            text = wire.offer_to(said.info_hash, said.peer_id, offer)
            self.deliver(target.owner, socket.number, text)

    def _send_away(self, peer: Peer, offers: tuple[Offer, ...]) -> tuple[Offer, ...]:
        if self._elsewhere is None:
            return offers
        info_hash = peer.swarm.info_hash
        here = len(peer.swarm.leechers)
        if not peer.seeding:
            # Without itself, who is one of the leechers.
            here += len(peer.swarm.seeds) - 1
        return self._elsewhere.send_offers(info_hash, peer.peer_id, peer.seeding, offers, here)

    def _counts(self, info_hash: InfoHash) -> Counts:
        here = self._swarms.counts(info_hash)
        return here if self._elsewhere is None else self._elsewhere.total(info_hash, here)

    def _answer(self, socket: PublicSocket, said: Answer) -> None:
        now = self._clock()
        try:
            target = self._swarms.route_answer(socket.number, said, now)
        except AnnounceError:
            if self._elsewhere is None or not self._send_back(self._elsewhere, socket, said, now):
                raise
            return
        if target is not None:
            self._tally.answers += 1
            self.deliver(target.owner, socket.number, wire.answer_to(said))

    def _send_back(
        self, elsewhere: Elsewhere, socket: PublicSocket, said: Answer, now: float
    ) -> bool:
        for origin in elsewhere.processes():
            if self._swarms.may_answer(socket.number, said, origin, now):
                elsewhere.send_answer(origin, said)
                return True
        return False

    def deliver(self, owner: int, sender: Hashable, text: bytes) -> None:
        """Hand a message on to the socket of that number."""
        # Never waited for: a slow target mustn't hold up the one who sends.
        self._sockets[owner].forward(sender, text)

    def _scrape(self, socket: PublicSocket, said: Scrape) -> None:
        asked = said.info_hashes
        if asked is None:
            some = islice(self._swarms, TRACKER_SCRAPE_MAX_SWARMS)
            asked = tuple(swarm.info_hash for swarm in some)
        if self._elsewhere is None:
            self._scraped(socket, asked)
        else:
            self._elsewhere.when_known(asked, partial(self._scraped, socket, asked))

    def _scraped(self, socket: PublicSocket, asked: tuple[InfoHash, ...]) -> None:
        socket.post(wire.scrape_reply({each: self._counts(each) for each in asked}))
