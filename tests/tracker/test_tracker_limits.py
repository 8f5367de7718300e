"""Limits that no other test crosses, over real sockets; ``test_every_limit.py`` has the list."""

from __future__ import annotations

import asyncio
import json
import socket
import time
from contextlib import asynccontextmanager, suppress

import aiohttp
import pytest

from dreamer.protocol.ids import InfoHash
from dreamer.protocol.tracker_limits import (
    TRACKER_DEAD_AFTER_S,
    TRACKER_HEARTBEAT_S,
    TRACKER_MAX_IDLE_SWARMS,
    TRACKER_MAX_OFFERS,
    TRACKER_MESSAGE_MAX_BYTES,
    TRACKER_MESSAGES_BURST,
    TRACKER_MESSAGES_PER_S,
    TRACKER_OFFER_AGE_S,
    TRACKER_OUTBOX_MAX_BYTES,
    TRACKER_PEER_AGE_S,
    TRACKER_REQUEST_HEAD_MAX_BYTES,
    TRACKER_REQUEST_HEAD_TIMEOUT_S,
    TRACKER_SCRAPE_MAX_SWARMS,
    TRACKER_SWEEP_INTERVAL_S,
    TRACKER_TICK_S,
)
from dreamer.tracker.public.pace import Pace
from dreamer.tracker.public.swarms import Swarms
from dreamer.tracker.public.wire import Announce, Counts, Event, PeerId

A_HASH = "a" * 20
ONE, TWO = "1" * 20, "2" * 20
WAIT_S = 20.0
PING = 9
UPGRADE = (
    "GET {path} HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n\r\n"
)


def text_frame(text: bytes) -> bytes:
    """A whole text frame, masked with zeros (RFC 6455, section 5.2)."""
    if len(text) < 126:
        head = bytes([0x81, 0x80 | len(text)])
    elif len(text) < 65_536:
        head = b"\x81\xfe" + len(text).to_bytes(2, "big")
    else:
        head = b"\x81\xff" + len(text).to_bytes(8, "big")
    return head + bytes(4) + text


class Raw:
    """A client that does with its connection what it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def upgrade(self, path: str = "/announce") -> Raw:
        self.writer.write(UPGRADE.format(path=path).encode())
        async with asyncio.timeout(WAIT_S):
            assert b"101 Switching" in await self.reader.readuntil(b"\r\n\r\n")
        return self

    async def rest(self) -> bytes:
        """Return all that still comes; the end is that of the connection."""
        said = b""
        async with asyncio.timeout(WAIT_S):
            with suppress(ConnectionError):
                while data := await self.reader.read(65_536):
                    said += data
        return said


@asynccontextmanager
async def raw(running, receive_buffer_bytes: int | None = None):
    host, port = running.url.removeprefix("http://").split(":")
    plain = socket.socket()
    if receive_buffer_bytes is not None:
        plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
    plain.setblocking(False)
    await asyncio.get_running_loop().sock_connect(plain, (host, int(port)))
    reader, writer = await asyncio.open_connection(sock=plain, limit=4096)
    try:
        yield Raw(reader, writer)
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()


def offers(count: int) -> list[dict]:
    return [
        {"offer_id": f"o{number}", "offer": {"type": "offer", "sdp": "v=0"}}
        for number in range(count)
    ]


async def test_offers_over_ten_are_not_passed_on(running):
    others = [await running.open() for _ in range(TRACKER_MAX_OFFERS + 5)]
    for number, other in enumerate(others):
        await other.announce(f"{number:020}")
    talker = await running.open()
    await talker.announce(ONE, offers=offers(TRACKER_MAX_OFFERS + 5), numwant=50)
    await running.stats_become(offers=TRACKER_MAX_OFFERS)


async def test_message_at_the_bound_is_taken_and_one_byte_more_is_not(running):
    talker, other = await running.open(), await running.open()
    said = {"action": "announce", "info_hash": A_HASH, "peer_id": ONE, "padding": ""}
    padding = "x" * (TRACKER_MESSAGE_MAX_BYTES - len(json.dumps(said)))
    await talker.socket.send_str(json.dumps({**said, "padding": padding}))
    assert (await talker.hear())["incomplete"] == 1
    await other.socket.send_str(json.dumps({**said, "padding": padding + "x"}))
    assert await other.closed()
    assert other.socket.close_code == aiohttp.WSCloseCode.MESSAGE_TOO_BIG


async def test_member_is_held_to_the_same_bound(running, insiders):
    talker, _ = await insiders[0].enter(running)
    other, _ = await insiders[1].enter(running)
    await talker.say(type="signal", to=insiders[1].hex, body={"sdp": "x" * 65_536})
    await talker.hear_type("joined")
    assert await talker.closed()
    assert talker.socket.close_code == aiohttp.WSCloseCode.MESSAGE_TOO_BIG
    assert (await other.hear_type("left", "signal"))["type"] == "left"


async def test_peer_that_does_not_announce_is_dropped_though_its_socket_stands(running):
    silent, regular = await running.open(), await running.open()
    clock = running.tracker._announce._clock
    await silent.announce(ONE)
    for later_s in (0.6 * TRACKER_PEER_AGE_S, 1.1 * TRACKER_PEER_AGE_S):
        running.tracker._announce._clock = lambda later_s=later_s: clock() + later_s
        assert (await regular.announce(TWO))["incomplete"] == 2
        running.tracker.sweep(clock() + later_s)
    assert (await regular.announce(TWO))["incomplete"] == 1
    # It needn't connect again to be counted again.
    assert (await silent.announce(ONE))["incomplete"] == 2


async def test_late_answer_is_not_passed_on(running):
    first, second = await running.open(), await running.open()
    await first.announce(ONE)
    await second.announce(TWO, offers=offers(1))
    assert (await first.hear())["offer_id"] == "o0"
    clock = running.tracker._announce._clock
    running.tracker._announce._clock = lambda: clock() + TRACKER_OFFER_AGE_S + 1
    answer = {"type": "answer", "sdp": "v=0"}
    await first.say(
        action="announce", info_hash=A_HASH, peer_id=ONE, to_peer_id=TWO, offer_id="o0",
        answer=answer,
    )  # fmt: skip
    assert "no such offer" in (await first.hear())["failure reason"]


async def test_sweep_comes_round_by_itself(documents, serving, monkeypatch):
    monkeypatch.setattr("dreamer.tracker.app.TRACKER_SWEEP_INTERVAL_S", 0.01)
    async with aiohttp.ClientSession() as http, serving(documents, http) as running:
        talker = await running.open()
        clock = running.tracker._announce._clock
        # Announced long ago, as the sweep sees it.
        running.tracker._announce._clock = lambda: clock() - TRACKER_PEER_AGE_S - 1
        await talker.say(action="announce", info_hash=A_HASH, peer_id=ONE)
        assert (await talker.hear())["incomplete"] == 1
        await running.stats_become(leechers=0, sockets=1)


def look_after_all(running, later_s: float) -> None:
    """Have the tracker look at every socket as it will some time from now."""
    now = time.monotonic() + later_s
    # One tick comes to some of them, so many ticks to all.
    for _ in range(round(TRACKER_SWEEP_INTERVAL_S / TRACKER_TICK_S)):
        running.tracker._announce.tick(now)


async def test_silent_client_is_pinged_and_dropped_if_it_does_not_answer(running):
    async with raw(running) as silent:
        await silent.upgrade()
        await running.stats_become(sockets=1)
        look_after_all(running, TRACKER_HEARTBEAT_S + 1)
        async with asyncio.timeout(WAIT_S):
            assert (await silent.reader.readexactly(2))[0] == 0x80 | PING
        look_after_all(running, TRACKER_DEAD_AFTER_S + 1)
        await running.stats_become(sockets=0)


async def test_silent_member_is_pinged_and_dropped_if_it_does_not_answer(
    running, insiders, monkeypatch
):
    monkeypatch.setattr("dreamer.tracker.room.client_socket.TRACKER_HEARTBEAT_S", 0.1)
    member, _ = await insiders[0].enter(running)
    other, _ = await insiders[1].enter(running)
    # From here on the member's side reads nothing: so it answers no ping.
    await other.hear_type("left")
    assert not member.socket.closed


async def test_client_that_never_reads_its_own_replies_is_cut_off(running):
    names = [f"{number:020}" for number in range(TRACKER_SCRAPE_MAX_SWARMS)]
    scrape = text_frame(json.dumps({"action": "scrape", "info_hash": names}).encode())
    # Each asks for some 80 KB: the kernel takes a few megabytes, and then the outbox one.
    assert len(scrape) < TRACKER_MESSAGE_MAX_BYTES < TRACKER_OUTBOX_MAX_BYTES
    async with raw(running, receive_buffer_bytes=4096) as deaf:
        await deaf.upgrade()
        await running.stats_become(sockets=1)
        with suppress(ConnectionError):
            for _ in range(600):
                deaf.writer.write(scrape)
                await deaf.writer.drain()
        await running.stats_become(sockets=0)


async def test_flood_in_one_piece_gives_others_their_turn(running):
    """A thousand messages arrive at once; another client needn't wait for all of them."""
    other = await running.open()
    await other.announce(TWO)
    async with raw(running) as flooder:
        await flooder.upgrade()
        flooder.writer.write(1000 * text_frame(b'{"action":"scrape","info_hash":[]}'))
        await other.announce(TWO)
        assert running.tracker._announce._tally.messages < 1000
        # But it is all taken in, in time.
        await running.stats_become(messages=1002)


def test_pace_lets_a_burst_pass_and_then_so_many_a_second():
    pace = Pace(0.0)
    waits = [pace.delay_s(0.0) for _ in range(int(TRACKER_MESSAGES_BURST) + 10)]
    # But for rounding.
    assert max(waits[:-10]) < 1e-6
    assert waits[-1] == pytest.approx(10 / TRACKER_MESSAGES_PER_S)


def test_downloads_of_few_idle_swarms_are_remembered():
    swarms = Swarms(None)

    def completed(number: int) -> InfoHash:
        name = InfoHash(number.to_bytes(20, "big"))
        swarms.announce(1, Announce(name, PeerId(b"p" * 20), Event.COMPLETED, 0, ()), 0.0)
        swarms.close(1)
        return name

    names = [completed(number) for number in range(TRACKER_MAX_IDLE_SWARMS + 1)]
    assert swarms.counts(names[0]) == Counts(0, 0, 0)
    assert swarms.counts(names[1]) == swarms.counts(names[-1]) == Counts(0, 0, 1)


async def test_request_whose_head_does_not_end_is_refused(running):
    async with raw(running) as client:
        client.writer.write(b"GET / HTTP/1.1\r\nX: " + b"x" * TRACKER_REQUEST_HEAD_MAX_BYTES)
        assert (await client.rest()).startswith(b"HTTP/1.1 431 ")


async def test_request_that_does_not_come_is_not_waited_for(documents, serving, monkeypatch):
    monkeypatch.setattr("dreamer.tracker.app.TRACKER_TICK_S", 0.01)
    monkeypatch.setattr("dreamer.tracker.door.TRACKER_REQUEST_HEAD_TIMEOUT_S", 0.05)
    assert TRACKER_REQUEST_HEAD_TIMEOUT_S < 60
    async with (
        aiohttp.ClientSession() as http,
        serving(documents, http) as running,
        raw(running) as client,
    ):
        client.writer.write(b"GET /announce HT")
        assert (await client.rest()).startswith(b"HTTP/1.1 408 ")


async def test_connections_of_one_address_are_bounded(documents, serving, insiders):
    async with (
        aiohttp.ClientSession() as http,
        serving(documents, http, sockets_per_address=2) as running,
    ):
        public = await running.open()
        member, _ = await insiders[0].enter(running)
        with pytest.raises(aiohttp.WSServerHandshakeError) as caught:
            await running.open()
        assert caught.value.status == 429
        assert (await running.get("/stats"))[0] == 429
        await public.close()
        await member.close()
        async with asyncio.timeout(WAIT_S):
            while (await running.get("/health"))[0] != 200:
                pass


async def test_shutdown_waits_for_nobody_who_does_not_answer(documents, serving, monkeypatch):
    monkeypatch.setattr("dreamer.tracker.public.socket.TRACKER_STOP_TIMEOUT_S", 0.05)
    async with (
        aiohttp.ClientSession() as http,
        serving(documents, http) as running,
        raw(running) as rude,
    ):
        await rude.upgrade()
        await running.stats_become(sockets=1)
        await running.tracker._announce.close()
        assert await rude.rest() == b"\x88\x02\x03\xe9"
