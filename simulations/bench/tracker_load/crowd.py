"""Swarms of clients that announce, answer every offer, and keep account of each one.

An offer is known by its serial from the announce that made it until its answer is back. So every
offer and answer is counted once, at the client for which it is meant; what never arrives stays in
the books as a difference, and what nobody sent is strange.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from random import Random

from dreamer.simulations.bench.tracker_load.books import Books
from dreamer.simulations.bench.tracker_load.client import Address, Client, connect
from dreamer.simulations.bench.tracker_load.messages import (
    OFFERS_PER_ANNOUNCE,
    SERIAL_CHARS,
    Phrases,
    name,
    names,
)

CONNECTING_AT_ONCE = 64
PORTS_PER_SOURCE = 20_000
# Every so often a message is parsed as a whole and compared with what was sent.
READ_CLOSELY_EVERY = 101

_OFFER_ID = b'"offer_id"'
_ANSWER = b'"answer"'
_FAILURE = b'"failure reason"'


class Announce:
    """One announce on its way: whose, when (perf_counter), how many answers are still to come."""

    __slots__ = ("awaited", "client", "first", "replied", "sent_at")

    def __init__(self, client: Client, first: int, awaited: int, sent_at: float) -> None:
        self.client = client
        self.first = first
        self.awaited = awaited
        self.sent_at = sent_at
        self.replied = False


class Crowd:
    """``sockets`` clients, each in one of the swarms of ``per_swarm``."""

    def __init__(self, address: Address, sockets: int, per_swarm: int, seed: int) -> None:
        self._address = address
        self._phrases = Phrases(rng := Random(seed))
        self._offered: dict[bytes, tuple[Announce, int, bytes]] = {}
        self._answered: dict[bytes, tuple[Announce, Client]] = {}
        self._due = _offers_due(sockets, per_swarm)
        hashes = [name(rng) for _ in range(-(-sockets // per_swarm))]
        self._names = [
            names(hashes[index // per_swarm], f"-WW0208-{name(rng, 12)}")
            for index in range(sockets)
        ]
        self.info_hashes = hashes
        self.clients: list[Client] = []
        self.books = Books()
        self.latencies_s: list[float] = []
        self.on_done: Callable[[], None] | None = None

    async def connect(self) -> None:
        """Open all sockets.

        Raises:
            ConnectError: the tracker refuses one.
        """
        for start in range(0, len(self._names), CONNECTING_AT_ONCE):
            batch = range(start, min(start + CONNECTING_AT_ONCE, len(self._names)))
            self.clients += await asyncio.gather(*map(self._open, batch))

    def close(self) -> None:
        """Close all sockets without a word, as clients that are killed do."""
        for client in self.clients:
            client.transport.abort()

    def join(self, client: Client) -> None:
        """Have a client announce that it has started, without offers."""
        announce = Announce(client, 0, 0, time.perf_counter())
        self._send(announce, self._phrases.started(client.names))

    def announce(self, client: Client) -> None:
        """Have a client announce with offers."""
        frame, first, ids = self._phrases.announce(client.names)
        due = self._due[client.index]
        announce = Announce(client, first, due, time.perf_counter())
        for place, (serial, offer_id) in enumerate(ids, first):
            self._offered[serial] = announce, place, offer_id
        self.books.offers_due += due
        self._send(announce, frame)

    @property
    def quiet(self) -> bool:
        """Whether everything that is due has come."""
        books = self.books
        return books.replies == books.announces and books.offers_due == books.answers

    async def _open(self, index: int) -> Client:
        # One address has too few ports for more.
        source = f"127.0.0.{1 + index // PORTS_PER_SOURCE}" if index >= PORTS_PER_SOURCE else None
        client = await connect(self._address, self._take, source)
        client.index, client.names = index, self._names[index]
        return client

    def _send(self, announce: Announce, frame: bytes) -> None:
        announce.client.announces.append(announce)
        self.books.announces += 1
        announce.client.transport.write(frame)

    def _take(self, client: Client, data: bytes, start: int, stop: int, now: float) -> None:
        key = data.find(_OFFER_ID, start, stop)
        if key < 0:
            self._take_reply(client, data, start, stop)
            return
        opening = data.index(b'"', key + len(_OFFER_ID))
        closing = data.index(b'"', opening + 1)
        serial = data[closing - SERIAL_CHARS : closing]
        if data.find(_ANSWER, start, stop) < 0:
            self._take_offer(client, serial, now, data, start, stop)
        else:
            self._take_answer(client, serial, data, start, stop)

    def _take_reply(self, client: Client, data: bytes, start: int, stop: int) -> None:
        if data.find(_FAILURE, start, stop) >= 0:
            self.books.refused += 1
        elif not client.announces:
            self.books.strange += 1
        else:
            self.books.replies += 1
            announce: Announce = client.announces.popleft()
            announce.replied = True
            self._finish(announce)

    def _take_offer(
        self, client: Client, serial: bytes, now: float, data: bytes, start: int, stop: int
    ) -> None:
        found = self._offered.pop(serial, None)
        if found is None:
            # It came twice, or from somebody else: the bench's own bad neighbour, if there is one.
            self.books.strange += 1
            return
        announce, place, offer_id = found
        self.latencies_s.append(now - announce.sent_at)
        books = self.books
        books.offers += 1
        offerer = announce.client
        if offerer is client or offerer.names.info_hash is not client.names.info_hash:
            books.misrouted += 1
        if not books.offers % READ_CLOSELY_EVERY:
            self._read_offer(json.loads(data[start:stop]), announce, place)
        self._answered[serial] = announce, client
        books.answers_sent += 1
        client.transport.write(self._phrases.answer(client.names, offerer.names, offer_id))

    def _take_answer(
        self, client: Client, serial: bytes, data: bytes, start: int, stop: int
    ) -> None:
        found = self._answered.pop(serial, None)
        if found is None:
            self.books.strange += 1
            return
        announce, answerer = found
        self.books.answers += 1
        if announce.client is not client:
            self.books.misrouted += 1
        if not self.books.answers % READ_CLOSELY_EVERY:
            self._read_answer(json.loads(data[start:stop]), answerer)
        announce.awaited -= 1
        self._finish(announce)

    def _finish(self, announce: Announce) -> None:
        if announce.replied and not announce.awaited:
            self.books.done += 1
            if self.on_done is not None:
                self.on_done()

    def _read_offer(self, said: dict[str, object], announce: Announce, place: int) -> None:
        names = announce.client.names
        expected = (names.info_hash, names.peer_id, self._phrases.offer_at(place))
        if (said["info_hash"], said["peer_id"], said["offer"]) != expected:
            self.books.misrouted += 1

    def _read_answer(self, said: dict[str, object], answerer: Client) -> None:
        expected = (answerer.names.info_hash, answerer.names.peer_id)
        if (said["info_hash"], said["peer_id"]) != expected:
            self.books.misrouted += 1
        if said["answer"] not in self._phrases.answers:
            self.books.misrouted += 1


def _offers_due(sockets: int, per_swarm: int) -> list[int]:
    """Return for each client how many of its offers find a peer, once all have joined."""
    sizes = [per_swarm] * (sockets // per_swarm) + [sockets % per_swarm]
    return [min(OFFERS_PER_ANNOUNCE, sizes[index // per_swarm] - 1) for index in range(sockets)]
