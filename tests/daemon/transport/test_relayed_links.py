"""Links over a real relay (coturn): what is counted and allowed, what shows, what is refused."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import hmac
import os
import re
import time
from collections.abc import Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import pytest
from blake3 import blake3

from dreamer.daemon.transport.client import Transport
from dreamer.daemon.transport.vocabulary import (
    VERIFIED,
    AllowBulk,
    Answer,
    BlockDone,
    BulkHeld,
    CloseLink,
    ControlReceived,
    Expect,
    FromTransport,
    LinkClosed,
    LinkOpened,
    LocalDescription,
    Offer,
    PathChanged,
    Relayed,
    RenewTurn,
    SendControl,
    Serve,
    TakeAnswer,
)
from dreamer.protocol.limits import CHUNK_BYTES, MIB, RELAY_LATE_MAX_BYTES, RELAY_RESERVE_BYTES
from dreamer.simulations.loopback import free_port, turn_server

pytestmark = pytest.mark.interop

SECRET = "s3cret"
PLENTY = 1000 * MIB
FOREVER_S = 3600


def lent(uri: str, ttl_s: float = FOREVER_S) -> dict[str, str]:
    """Make credentials as a tracker does, which coturn takes for ``ttl_s``."""
    name = f"{int(time.time() + ttl_s)}:test"
    password = hmac.digest(SECRET.encode(), name.encode(), hashlib.sha1)
    return {"urls": uri, "username": name, "credential": base64.b64encode(password).decode()}


class End:
    """A transport process and its one link."""

    def __init__(self) -> None:
        self.events: asyncio.Queue[FromTransport] = asyncio.Queue()
        self.transport = Transport(self.events.put_nowait)
        self.link = self.transport.new_link()
        self.seen: list[FromTransport] = []

    async def until(self, wanted: Callable[[FromTransport], bool]) -> FromTransport:
        async with asyncio.timeout(90):
            while True:
                event = await self.events.get()
                self.seen.append(event)
                if wanted(event):
                    return event

    async def expect(self, kind):
        return await self.until(lambda event: isinstance(event, kind))

    def newest(self, kind):
        while not self.events.empty():
            self.seen.append(self.events.get_nowait())
        return next((event for event in reversed(self.seen) if isinstance(event, kind)), None)

    @property
    def counted(self) -> int:
        newest = self.newest(Relayed)
        return newest.down + newest.up if newest else 0


@asynccontextmanager
async def running(end: End):
    task = asyncio.create_task(end.transport.run())
    await end.transport.ready.wait()
    try:
        yield end
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@pytest.fixture
async def ends():
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(running(End())) for _ in range(2)]


@pytest.fixture
def relay(program, tmp_path):
    with turn_server(program("turnserver"), tmp_path / "coturn.log", SECRET) as uri:
        yield uri


async def describe(a: End, b: End, ice_a: tuple, ice_b: tuple) -> tuple[str, str]:
    """Bring a link on its way; return offer and answer. ``ice``: servers, relay only, relays."""
    a.transport.send(Offer(a.link, *ice_a[:2], relays=ice_a[2]))
    offer = await a.expect(LocalDescription)
    b.transport.send(Answer(b.link, offer.sdp, *ice_b[:2], relays=ice_b[2]))
    answer = await b.expect(LocalDescription)
    a.transport.send(TakeAnswer(a.link, answer.sdp))
    return offer.sdp, answer.sdp


async def relayed_link(a: End, b: End, uri: str) -> tuple[str, str]:
    only = ([lent(uri)], True, True)
    said = await describe(a, b, only, only)
    for end in (a, b):
        assert (await end.expect(LinkOpened)).relayed
    return said


class Blocks:
    """A file of random bytes that one end has and the other one wants, block by block."""

    def __init__(self, root: Path, count: int) -> None:
        self.source, self.target = root / "source", root / "target"
        data = os.urandom(count * MIB)
        self.source.write_bytes(data)
        self.target.write_bytes(b"")
        self.digests = [blake3(data[i * MIB : (i + 1) * MIB]).digest() for i in range(count)]

    def ask(self, taker: End, giver: End, request: int = 1) -> None:
        rows = list(enumerate(self.digests))
        wanted = [(i, str(self.target), i * MIB, MIB, digest) for i, digest in rows]
        taker.transport.send(Expect(taker.link, request, wanted))
        self.give(giver, request)

    def give(self, giver: End, request: int = 1) -> None:
        spans = [(i, str(self.source), i * MIB, MIB) for i in range(len(self.digests))]
        giver.transport.send(Serve(giver.link, request, spans))

    @property
    def size(self) -> int:
        return len(self.digests) * MIB


async def session_bytes(log: Path) -> list[int]:
    """Return what coturn counted from and to its clients, one by one, once both have left."""
    async with asyncio.timeout(90):
        while len(re.findall(r"session \d+: delete: realm", log.read_text())) < 2:
            await asyncio.sleep(0.05)
    usage = r"session (\d+): usage: realm=\S+ username=\S+ rp=\d+, rb=(\d+), sp=\d+, sb=(\d+)"
    sums: dict[str, int] = {}
    # It says what has passed since it said so last.
    for session, received, sent in re.findall(usage, log.read_text()):
        sums[session] = sums.get(session, 0) + int(received) + int(sent)
    return sorted(sums.values())


async def test_relayed_bytes_are_those_that_the_relay_counts(ends, relay, tmp_path):
    a, b = ends
    await relayed_link(a, b, relay)
    for end in ends:
        end.transport.send(AllowBulk(end.link, PLENTY))
    blocks = Blocks(tmp_path, 6)
    blocks.ask(b, a)
    for _ in blocks.digests:
        assert (await b.expect(BlockDone)).verdict == VERIFIED
    for end in ends:
        end.transport.send(CloseLink(end.link))
    sums = await session_bytes(tmp_path / "coturn.log")
    counted = sorted(end.counted for end in ends)
    assert counted[0] > blocks.size
    for ours, theirs in zip(counted, sums, strict=True):
        # Beside ours coturn counts allocations, permissions and refreshes.
        assert 0.995 < ours / theirs <= 1.0


async def test_bulk_stops_within_the_allowance_and_control_goes_on(ends, relay, tmp_path):
    a, b = ends
    await relayed_link(a, b, relay)
    allowance = 5 * MIB
    a.transport.send(AllowBulk(a.link, allowance))
    b.transport.send(AllowBulk(b.link, PLENTY))
    Blocks(tmp_path, 12).ask(b, a)
    await a.expect(BulkHeld)
    # A message goes through right behind it, and by then all that was under way has passed.
    a.transport.send(SendControl(a.link, b"still here"))
    await b.until(lambda event: event == ControlReceived(b.link, b"still here"))
    b.transport.send(SendControl(b.link, b"so am I"))
    await a.until(lambda event: event == ControlReceived(a.link, b"so am I"))
    held_at = a.counted
    assert allowance - RELAY_RESERVE_BYTES - CHUNK_BYTES < held_at <= allowance
    # More allowance, more blocks: what was left of the request was given up, so it is asked anew.
    a.transport.send(AllowBulk(a.link, PLENTY))
    again = Blocks(tmp_path, 3)
    again.ask(b, a, request=2)
    for _ in again.digests:
        await b.until(lambda event: isinstance(event, BlockDone) and event.request == 2)


async def test_taker_whose_allowance_ends_takes_no_more_and_drops_who_goes_on(
    ends, relay, tmp_path
):
    a, b = ends
    await relayed_link(a, b, relay)
    a.transport.send(AllowBulk(a.link, PLENTY))
    b.transport.send(AllowBulk(b.link, 4 * MIB))
    blocks = Blocks(tmp_path, 16)
    blocks.ask(b, a)
    await b.expect(BulkHeld)
    done = b.counted
    # Nobody tells the giver to stop.
    closed = await b.expect(LinkClosed)
    assert closed.fault
    assert "used up" in closed.reason
    assert b.counted - done < RELAY_LATE_MAX_BYTES * 1.2 + MIB


async def test_no_block_passes_a_relay_before_any_is_allowed(ends, relay, tmp_path):
    a, b = ends
    await relayed_link(a, b, relay)
    Blocks(tmp_path, 1).ask(b, a)
    await a.expect(BulkHeld)
    a.transport.send(SendControl(a.link, b"nothing else came"))
    await b.expect(ControlReceived)
    assert b.newest(BlockDone) is None
    assert b.counted < CHUNK_BYTES


async def test_link_without_a_relay_heeds_no_allowance(ends, tmp_path):
    a, b = ends
    await describe(a, b, ([], False, True), ([], False, True))
    for end in ends:
        assert not (await end.expect(LinkOpened)).relayed
    blocks = Blocks(tmp_path, 2)
    blocks.ask(b, a)
    for _ in blocks.digests:
        assert (await b.expect(BlockDone)).verdict == VERIFIED
    assert b.newest(Relayed) is None
    assert b.newest(PathChanged) is None


async def test_relay_only_shows_no_address_but_the_relays(ends, relay):
    address = re.compile(r"(?:\d{1,3}\.){3}\d{1,3}|[0-9a-f]*::[0-9a-f:]*")
    for sdp in await relayed_link(*ends, relay):
        candidates = re.findall(r"a=candidate:(.*)", sdp)
        assert candidates
        for line in candidates:
            _, _, transport, _, host, port, *rest = line.split()
            assert (transport, host) == ("udp", "127.0.0.1")
            assert int(port) >= 49152
            assert " ".join(rest) == "typ relay raddr 0.0.0.0 rport 9"
        (relay_port,) = {line.split()[5] for line in candidates}
        assert re.findall(r"(?m)^m=application (\d+)", sdp) == [relay_port]
        assert re.findall(r"(?m)^c=IN IP4 (\S+)", sdp) == ["127.0.0.1"]
        # Every address in it, wherever it stands, is the relay's or nobody's.
        assert set(address.findall(sdp)) == {"127.0.0.1", "0.0.0.0"}


async def test_relay_only_without_a_relay_says_so(ends):
    a, _ = ends
    nobody = f"turn:127.0.0.1:{free_port()}?transport=tcp"
    a.transport.send(Offer(a.link, [lent(nobody)], True))
    closed = await a.expect(LinkClosed)
    assert "no TURN server gave this node an address" in closed.reason
    assert a.newest(LocalDescription) is None


@pytest.mark.parametrize("offers", [True, False])
async def test_node_that_uses_no_relays_refuses_those_of_the_peer(ends, relay, offers, tmp_path):
    a, b = ends
    only, never = ([lent(relay)], True, True), ([], False, False)
    if offers:
        # It hears of the relay by the answer.
        await describe(b, a, never, only)
    else:
        a.transport.send(Offer(a.link, *only[:2]))
        offer = await a.expect(LocalDescription)
        b.transport.send(Answer(b.link, offer.sdp, [], False, relays=False))
    closed = await b.expect(LinkClosed)
    assert "never" in closed.reason
    assert b.newest(Relayed) is None
    a.transport.send(CloseLink(a.link))
    # Of a handshake nothing passed: coturn relayed a's unanswered checks at most, and no answer.
    log = tmp_path / "coturn.log"
    async with asyncio.timeout(90):
        while not (found := re.findall(r"peer usage: .*rb=(\d+)", log.read_text())):
            await asyncio.sleep(0.05)
    assert set(found) == {"0"}


async def test_relay_over_tcp_carries_blocks(ends, relay, tmp_path):
    a, b = ends
    await relayed_link(a, b, relay.replace("udp", "tcp"))
    for end in ends:
        end.transport.send(AllowBulk(end.link, PLENTY))
    blocks = Blocks(tmp_path, 3)
    blocks.ask(b, a)
    for _ in blocks.digests:
        assert (await b.expect(BlockDone)).verdict == VERIFIED
    await b.until(lambda event: isinstance(event, Relayed) and event.down > blocks.size)


async def test_second_relay_is_used_where_the_first_does_not_answer(ends, relay):
    a, b = ends
    silent = f"turn:127.0.0.1:{free_port()}?transport=udp"
    both = ([lent(silent), lent(relay.replace("udp", "tcp"))], True, True)
    await describe(a, b, both, both)
    for end in ends:
        assert (await end.expect(LinkOpened)).relayed


async def test_link_outlives_the_credentials_that_made_it(program, ends, tmp_path):
    """coturn lends for 6 s here, so aioice refreshes every 5; the first credentials end after 3."""
    a, b = ends
    log = tmp_path / "coturn.log"
    options = ("--max-allocate-lifetime=6", "--stale-nonce=4")
    with turn_server(program("turnserver"), log, SECRET, *options) as uri:
        only = ([lent(uri, ttl_s=3)], True, True)
        await describe(a, b, only, only)
        for end in ends:
            await end.expect(LinkOpened)
            end.transport.send(AllowBulk(end.link, PLENTY))
            end.transport.send(RenewTurn(end.link, [lent(uri)]))
        async with asyncio.timeout(90):
            # Two refreshes of each end: both after the first credentials had expired.
            while len(re.findall(r"refreshed, .*lifetime=6", log.read_text())) < 4:
                await asyncio.sleep(0.1)
        blocks = Blocks(tmp_path, 2)
        blocks.ask(b, a)
        for _ in blocks.digests:
            assert (await b.expect(BlockDone)).verdict == VERIFIED
        assert "401" not in log.read_text().rpartition("refreshed")[2]
