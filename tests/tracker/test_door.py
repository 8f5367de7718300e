"""The door and the lean sockets behind it, spoken to byte by byte."""

from __future__ import annotations

import asyncio
import json
import random
import socket
import time
from contextlib import asynccontextmanager

import aiohttp
import pytest

from dreamer.protocol.tracker_limits import (
    TRACKER_DEAD_AFTER_S,
    TRACKER_HEARTBEAT_S,
    TRACKER_KERNEL_BUFFER_BYTES,
    TRACKER_REQUEST_HEAD_MAX_BYTES,
    TRACKER_REQUEST_HEAD_TIMEOUT_S,
    TRACKER_SWEEP_INTERVAL_S,
)
from dreamer.tracker.app import Tracker
from dreamer.tracker.door import Door
from dreamer.tracker.handshake import opening
from dreamer.tracker.places import Places
from dreamer.tracker.public import socket as public_socket

DEADLINE_S = 5.0
ONE, TWO = "1" * 20, "2" * 20
A_HASH = "a" * 20

# The key and its answer are those of RFC 6455, section 1.3.
UPGRADE = (
    b"GET /announce HTTP/1.1\r\nHost: x\r\n"
    b"Upgrade: WebSocket\r\nConnection: keep-alive, Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
)


class Raw:
    """A connection of bytes; every read has a deadline."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def head(self) -> bytes:
        return await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), DEADLINE_S)

    async def rest(self) -> bytes:
        """Everything until the other side hangs up."""
        return await asyncio.wait_for(self.reader.read(), DEADLINE_S)

    async def frame(self) -> tuple[int, bytes]:
        async with asyncio.timeout(DEADLINE_S):
            first, size = await self.reader.readexactly(2)
            if size == 126:
                size = int.from_bytes(await self.reader.readexactly(2), "big")
            return first & 15, await self.reader.readexactly(size)

    async def said(self) -> dict:
        return json.loads((await self.frame())[1])


@asynccontextmanager
async def connected(url: str):
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        yield Raw(reader, writer)
    finally:
        writer.close()


@asynccontextmanager
async def upgraded(url: str):
    async with connected(url) as raw:
        raw.send(UPGRADE)
        await raw.head()
        yield raw


def masked(kind: int, payload: bytes) -> bytes:
    assert len(payload) < 1 << 16
    size = bytes([0x80 | 126]) + len(payload).to_bytes(2, "big")
    return bytes([0x80 | kind]) + size + b"\0\0\0\0" + payload


def announce(peer_id: str, more: bytes = b"", kind: int = 1) -> bytes:
    said = f'{{"action":"announce","info_hash":"{A_HASH}","peer_id":"{peer_id}"'
    return masked(kind, said.encode() + more + b"}")


async def test_upgrade_that_comes_byte_by_byte_is_accepted_without_extensions(running):
    async with connected(running.url) as raw:
        for at in range(len(UPGRADE)):
            raw.send(UPGRADE[at : at + 1])
            await raw.writer.drain()
        head = await raw.head()
        assert head.startswith(b"HTTP/1.1 101 ")
        assert b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n" in head
        assert b"xtensions" not in head


async def test_frames_that_come_with_the_upgrade_are_heard(running):
    async with connected(running.url) as raw:
        raw.send(UPGRADE + announce(ONE))
        await raw.head()
        assert (await raw.said())["incomplete"] == 1


@pytest.mark.parametrize(
    ("old", "new", "status"),
    [
        (b"Version: 13", b"Version: 8", b"426"),
        (b"ZQ==", b"", b"400"),
        (b"GET", b"POST", b"405"),
        (b"/announce", b"/nothing", b"404"),
        (b"Upgrade: WebSocket\r\n", b"", b"426"),
        (b"Host: x", b"Host : x", b"400"),
        (b"Host: x", b"Host: x\r\nContent-Length: 0", b"426"),
        # What one reader takes for one header and another for two, or for either of two.
        (b"Host: x", b"Host: x\r\nHost: y", b"400"),
        (b"Host: x", b"Host: x\nContent-Length: 5", b"400"),
        (b"Host: x", b"Host: x\0", b"400"),
        (b"Host: x", b"Host: x\r\nA: b\r\n c: d", b"400"),
        (b"Host: x", b"Host: x\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==", b"400"),
        (b"Host: x", b"Host: x\r\nSec-WebSocket-Version: 8", b"426"),
        (b"HTTP/1.1", b"HTTP/1.0", b"426"),
        (b"Host: x", b"Host: x\r\nA: " + b"x" * TRACKER_REQUEST_HEAD_MAX_BYTES, b"431"),
    ],
)
async def test_what_is_no_upgrade_gets_an_answer_of_http(running, old, new, status):
    async with connected(running.url) as raw:
        assert old in UPGRADE
        raw.send(UPGRADE.replace(old, new))
        assert (await raw.head()).split(b" ")[1] == status
        await raw.rest()


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"Connection: keep-alive, Upgrade", b"CONNECTION: Upgrade\r\nconnection: keep-alive"),
        (b"/announce", b"/announce?x=1"),
        (b"/announce", b"/"),
        (b"GET", b"\r\n\r\n\r\nGET"),
    ],
)
async def test_upgrade_may_be_written_in_several_ways(running, old, new):
    async with connected(running.url) as raw:
        raw.send(UPGRADE.replace(old, new, 1))
        assert (await raw.head()).startswith(b"HTTP/1.1 101 ")


async def test_second_request_on_a_connection_is_not_answered(running):
    """It could be an upgrade, when the door doesn't listen any more."""
    async with connected(running.url) as raw:
        raw.send(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n" + UPGRADE)
        heard = await raw.rest()
        assert heard.count(b"HTTP/1.1 ") == 1
        assert b"\r\nConnection: close\r\n" in heard


def test_upgrade_with_a_body_is_none_of_ours():
    assert opening(UPGRADE.removesuffix(b"\r\n\r\n")) is not None
    with_body = UPGRADE.replace(b"\r\n\r\n", b"\r\nTransfer-Encoding: chunked")
    assert opening(with_body) is None


def test_version_that_is_spoken_is_named():
    found = opening(UPGRADE.replace(b": 13", b": 99").removesuffix(b"\r\n\r\n"))
    assert found is not None
    assert not found.accepted
    assert b"\r\nSec-WebSocket-Version: 13\r\n" in found.response


@pytest.mark.parametrize("head", [b"GET /announce", b"\r\n\r\nG"])
async def test_whoever_says_nothing_at_the_door_is_turned_away(head):
    """And so is one that sends its head drop by drop, or nothing but empty lines."""

    def never():
        raise AssertionError("nobody was let in")

    door = Door(None, never, Places(0))
    server = await asyncio.get_running_loop().create_server(door, "127.0.0.1", 0)
    try:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with connected(url) as raw:
            raw.send(head)
            async with asyncio.timeout(DEADLINE_S):
                while not any(visitor._head for visitor in door.visitors):
                    await asyncio.sleep(0)
            door.sweep(time.monotonic())
            assert len(door.visitors) == 1
            door.sweep(time.monotonic() + TRACKER_REQUEST_HEAD_TIMEOUT_S)
            assert (await raw.rest()).startswith(b"HTTP/1.1 408 ")
    finally:
        server.close()


async def test_address_with_too_many_connections_is_told_what_to_do(documents, serving):
    async with (
        aiohttp.ClientSession() as http,
        serving(documents, http, sockets_per_address=2) as running,
    ):
        first, second = await running.open(), await running.open()
        async with connected(running.url) as raw:
            raw.send(UPGRADE)
            refusal = await raw.rest()
        assert refusal.startswith(b"HTTP/1.1 429 ")
        assert b"sockets_per_address" in refusal
        # Those that are there stay, and one that goes makes room, for HTTP too.
        assert (await second.announce(TWO))["incomplete"] == 1
        await first.close()
        async with asyncio.timeout(DEADLINE_S):
            while (await running.get("/health"))[0] != 200:
                pass


async def test_requests_that_are_answered_take_no_place_any_more(documents, serving):
    async with (
        aiohttp.ClientSession() as http,
        serving(documents, http, sockets_per_address=2) as running,
        asyncio.timeout(DEADLINE_S),
    ):
        for _ in range(5):
            while (await running.get("/health"))[0] != 200:
                pass


async def test_crowd_at_the_door_is_not_waited_for(documents, serving):
    """Beyond twice its bound an address gets no answer, nor the time to ask."""
    async with (
        aiohttp.ClientSession() as http,
        serving(documents, http, sockets_per_address=1) as running,
        connected(running.url),
        connected(running.url) as second,
    ):
        async with connected(running.url) as third:
            assert await third.rest() == b""
        second.send(UPGRADE)
        assert (await second.rest()).startswith(b"HTTP/1.1 429 ")


async def test_descriptions_are_passed_on_byte_for_byte(running):
    offer = b'{ "sdp":"v=0 \\u00e9 \xc3\xa9 \\n",\t"type":"offer", "more":[1.50,{"x":null}] }'
    answer = b'{"x":1e2,"sdp":"\\/"}'
    ids = b'"offer_id":"\\u00e9\xc3\xa9"'
    async with upgraded(running.url) as first, upgraded(running.url) as second:
        first.send(announce(ONE))
        await first.frame()
        second.send(announce(TWO, b',"offers":[{"offer":' + offer + b"," + ids + b"}]"))
        await second.frame()
        _, heard = await first.frame()
        assert b',"offer":' + offer + b"}" in heard
        assert json.loads(heard)["offer_id"] == "éé"
        to = b',"to_peer_id":"' + TWO.encode() + b'",'
        first.send(announce(ONE, to + ids + b',"answer":' + answer, kind=2))
        _, heard = await second.frame()
        assert b',"answer":' + answer + b"}" in heard
        assert b"to_peer_id" not in heard


@pytest.mark.parametrize("sdp", [b"\xff", b"\xed\xa0\x80", b'\n"x', b"\\x"])
async def test_what_is_no_text_or_no_json_reaches_nobody_else(running, sdp):
    async with upgraded(running.url) as bad, upgraded(running.url) as other:
        other.send(announce(ONE))
        await other.frame()
        rest = b',"offers":[{"offer":{"sdp":"' + sdp + b'"},"offer_id":"o"}]'
        bad.send(announce(TWO, rest, kind=2))
        assert "failure reason" in await bad.said()
        bad.send(announce(TWO, rest))
        kind, payload = await bad.frame()
        # As text, what isn't UTF-8 breaks the protocol; what isn't JSON is told so once more.
        assert kind == 1 or payload == (1007).to_bytes(2, "big")
        other.send(announce(ONE))
        assert (await other.said())["incomplete"] == 1


async def test_lone_surrogate_in_a_description_is_passed_on_as_it_was_escaped(running):
    async with upgraded(running.url) as first, upgraded(running.url) as second:
        first.send(announce(ONE))
        await first.frame()
        rest = b',"offers":[{"offer":{"sdp":"\\ud800"},"offer_id":"\\udfff"}]'
        second.send(announce(TWO, rest))
        await second.frame()
        heard = (await first.frame())[1]
        assert b'"sdp":"\\ud800"' in heard
        assert b'"offer_id":"\\udfff"' in heard


async def test_goodbye_is_answered_and_the_connection_closed(running):
    async with upgraded(running.url) as raw:
        raw.send(masked(8, b"") + announce(ONE))
        assert await raw.frame() == (8, (1000).to_bytes(2, "big"))
        assert await raw.rest() == b""
    assert (await running.stats())["announces"] == 0


@pytest.mark.parametrize(
    ("sent", "status"),
    [(b"\x81\x01x", 1002), (masked(3, b""), 1002), (masked(1, b"\xff"), 1007)],
)
async def test_broken_frames_are_told_by_a_close_code(running, sent, status):
    async with upgraded(running.url) as raw:
        raw.send(announce(ONE) + sent + announce(TWO))
        assert (await raw.said())["incomplete"] == 1
        assert await raw.frame() == (8, status.to_bytes(2, "big"))
        raw.writer.write_eof()
        assert await raw.rest() == b""
    await running.stats_become(sockets=0, leechers=0)


async def test_silent_client_is_pinged_and_then_cut_off(running):
    """A frame that never ends is no sign of life."""
    async with upgraded(running.url) as raw:
        raw.send(masked(1, b"x" * 100)[:50])
        await running.stats_become(sockets=1)
        _look_at_all(running, TRACKER_HEARTBEAT_S + 1)
        assert await raw.frame() == (9, b"")
        raw.send(masked(1, b"x" * 100)[50:])
        assert "failure reason" in await raw.said()
        _look_at_all(running, TRACKER_HEARTBEAT_S - 1)
        _look_at_all(running, TRACKER_DEAD_AFTER_S + 1)
        # Without a word, not even a ping.
        assert await raw.rest() == b""
    await running.stats_become(sockets=0)


async def test_client_that_speaks_is_not_given_up(running, monkeypatch):
    async with upgraded(running.url) as raw:
        await running.stats_become(sockets=1)
        later = time.monotonic() + TRACKER_DEAD_AFTER_S
        monkeypatch.setattr(public_socket, "_clock", lambda: later)
        raw.send(announce(ONE))
        await raw.said()
        _look_at_all(running, TRACKER_DEAD_AFTER_S + 1)
        raw.send(announce(ONE))
        # No ping came either.
        assert (await raw.said())["incomplete"] == 1


def _look_at_all(running, later_s: float) -> None:
    for _ in range(int(TRACKER_SWEEP_INTERVAL_S)):
        running.tracker._announce.tick(time.monotonic() + later_s)


async def test_kernel_holds_little_for_a_public_socket(running):
    """Left alone it takes megabytes for each client that doesn't read."""
    async with upgraded(running.url):
        (served,) = running.tracker._announce._sockets.values()
        descriptor = served._transport.get_extra_info("socket")
        for buffer in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            size = descriptor.getsockopt(socket.SOL_SOCKET, buffer)
            # Linux doubles what it is told, for its own needs (socket(7)).
            assert size <= 2 * TRACKER_KERNEL_BUFFER_BYTES


async def test_wildcard_of_ipv6_is_every_address_of_ipv4_too(documents):
    if not socket.has_dualstack_ipv6():
        pytest.skip("no IPv6 here")
    tracker = Tracker(documents, random.Random(1))
    async with tracker.listening("::", 0) as port:
        for host in ("127.0.0.1", "::1"):
            reader, writer = await asyncio.open_connection(host, port)
            writer.write(UPGRADE)
            assert (await Raw(reader, writer).head()).startswith(b"HTTP/1.1 101 ")
            writer.close()


async def test_messages_of_one_turn_come_in_order(running):
    async with upgraded(running.url) as first, upgraded(running.url) as second:
        first.send(announce(ONE))
        await first.frame()
        offers = ",".join(f'{{"offer":{{"sdp":""}},"offer_id":"{n}"}}' for n in range(1))
        sent = announce(TWO, f',"offers":[{offers}]'.encode())
        # More than a turn takes, and more than are kept until its end.
        second.send(sent * 100)
        for _ in range(100):
            assert "offer" in await first.said()
            assert "incomplete" in await second.said()
