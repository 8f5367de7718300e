"""Two real connections with a firewall between them, while minutes of ICE pass in a second.

aioice sends the checks of a pair for 127 times its first pause (RFC 8489, 6.2.1); the pause is
shortened here, and the firewall lets nothing through until the test says so.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from ipaddress import ip_address

import aioice.stun
import pytest

from dreamer.daemon.transport import patience
from dreamer.daemon.transport.connection import Connection, configuration
from dreamer.daemon.transport.vocabulary import (
    FromTransport,
    LinkClosed,
    LinkOpened,
    LocalDescription,
)
from dreamer.protocol.link.description import (
    Candidate,
    CandidateKind,
    Description,
    Setup,
    reduce,
)

DEADLINE_S = 20.0
FIRST_PAUSE_S = 0.01
CHECK_INTERVAL_S = 0.05


class Firewall(asyncio.DatagramProtocol):
    """A port before ``target``; what others send to it goes on from a port of its own for each."""

    def __init__(self, target: tuple[str, int]) -> None:
        self._target = target
        self._ways: dict[tuple[str, int], asyncio.DatagramTransport] = {}
        self.open = False
        self.dropped = 0

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:
        self.transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if not self.open:
            self.dropped += 1
            return
        if addr in self._ways:
            self._ways[addr].sendto(data, self._target)
        else:
            task = asyncio.ensure_future(self._new_way(data, addr))
            task.add_done_callback(lambda done: done.result())

    async def _new_way(self, data: bytes, addr: tuple[str, int]) -> None:
        loop = asyncio.get_running_loop()
        back = _Back(self.transport, addr)
        way, _ = await loop.create_datagram_endpoint(lambda: back, local_addr=(self._target[0], 0))
        if addr in self._ways or self.transport.is_closing():
            way.close()
        else:
            self._ways[addr] = way
            way.sendto(data, self._target)

    def close(self) -> None:
        self.transport.close()
        for way in self._ways.values():
            way.close()


class _Back(asyncio.DatagramProtocol):
    def __init__(self, front: asyncio.DatagramTransport, to: tuple[str, int]) -> None:
        self._front, self._to = front, to

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self._front.sendto(data, self._to)


class End:
    """One connection and what it reports."""

    def __init__(self, writers: ThreadPoolExecutor) -> None:
        self.events: asyncio.Queue[FromTransport] = asyncio.Queue()
        self.connection = Connection(1, configuration([], False), writers, self.events.put_nowait)

    async def event(self) -> FromTransport:
        async with asyncio.timeout(DEADLINE_S):
            return await self.events.get()

    async def described(self) -> Description:
        event = await self.event()
        assert isinstance(event, LocalDescription)
        return reduce(event.sdp)

    async def pairs_in(self, *states: str) -> None:
        """Wait until every pair of addresses is in one of these states."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                pairs = self.connection._ice()._check_list
                if pairs and all(pair.state.name in states for pair in pairs):
                    return
                await asyncio.sleep(FIRST_PAUSE_S)


@asynccontextmanager
async def firewalled(described: Description) -> AsyncIterator[tuple[Description, Firewall]]:
    """Yield a description that leads to a firewall before the first IPv4 address of another."""
    first = next(c for c in described.candidates if c.address.version == 4)
    host = str(first.address)
    loop = asyncio.get_running_loop()
    _, firewall = await loop.create_datagram_endpoint(
        lambda: Firewall((host, first.port)), local_addr=(host, 0)
    )
    host, port = firewall.transport.get_extra_info("sockname")[:2]
    before = Candidate(CandidateKind.HOST, ip_address(host), port)
    try:
        yield (
            Description(described.ufrag, described.password, described.fingerprint, (before,)),
            firewall,
        )
    finally:
        firewall.close()


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Let the 63 s for which a check is sent pass in 1.3 s."""
    monkeypatch.setattr(aioice.stun, "RETRY_RTO", FIRST_PAUSE_S)
    monkeypatch.setattr(patience, "CONNECT_CHECK_INTERVAL_S", CHECK_INTERVAL_S)


@pytest.fixture
async def ends() -> AsyncIterator[tuple[End, End]]:
    with ThreadPoolExecutor(1) as writers:
        made = (End(writers), End(writers))
        yield made
        for end in made:
            await end.connection.close()


async def test_an_end_that_is_not_patient_gives_up_when_nobody_checks_back(ends) -> None:
    offerer, answerer = ends
    await offerer.connection.offer()
    async with firewalled(await offerer.described()) as (offer, _):
        await answerer.connection.answer(offer.sdp(Setup.OFFER))
        await answerer.described()
        closed = await answerer.event()
    assert isinstance(closed, LinkClosed)
    assert closed.reason == "the connection is failed"


async def test_a_patient_end_links_long_after_its_checks_have_failed(ends) -> None:
    offerer, answerer = ends
    await offerer.connection.offer(patient=True)
    async with firewalled(await offerer.described()) as (offer, front):
        await answerer.connection.answer(offer.sdp(Setup.OFFER), patient=True)
        async with firewalled(await answerer.described()) as (answer, back):
            await answerer.pairs_in("FAILED")
            assert front.dropped
            assert answerer.events.empty()
            front.open = back.open = True
            await offerer.connection.take_answer(answer.sdp(Setup.ANSWER))
            assert isinstance(await offerer.event(), LinkOpened)
            assert isinstance(await answerer.event(), LinkOpened)


async def test_it_goes_on_knocking_where_only_it_can_open_the_way(ends) -> None:
    """The offerer's own checks never come through, as with a NAT before the answerer."""
    offerer, answerer = ends
    await offerer.connection.offer(patient=True)
    async with firewalled(await offerer.described()) as (offer, front):
        await answerer.connection.answer(offer.sdp(Setup.OFFER), patient=True)
        async with firewalled(await answerer.described()) as (answer, back):
            await answerer.pairs_in("FAILED")
            await offerer.connection.take_answer(answer.sdp(Setup.ANSWER))
            front.open = True
            assert isinstance(await offerer.event(), LinkOpened)
            assert isinstance(await answerer.event(), LinkOpened)
            assert not back.open


async def test_an_offerer_reached_at_once_answers_checks_until_it_knows_the_answer(ends) -> None:
    offerer, answerer = ends
    await offerer.connection.offer(patient=True)
    offer = await offerer.described()
    await answerer.connection.answer(offer.sdp(Setup.OFFER), patient=True)
    answer = await answerer.described()
    await answerer.pairs_in("SUCCEEDED", "FAILED")
    await offerer.connection.take_answer(answer.sdp(Setup.ANSWER))
    assert isinstance(await offerer.event(), LinkOpened)
    assert isinstance(await answerer.event(), LinkOpened)


async def test_an_offerer_that_waits_keeps_its_nat_awake(monkeypatch) -> None:
    monkeypatch.setattr(patience, "CONNECT_KEEPALIVE_S", 0.01)
    words: asyncio.Queue[aioice.stun.Message] = asyncio.Queue()

    class StunServer(asyncio.DatagramProtocol):
        def connection_made(self, transport: asyncio.DatagramTransport) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
            asked = aioice.stun.parse_message(data)
            words.put_nowait(asked)
            if asked.message_class is aioice.stun.Class.REQUEST:
                told = aioice.stun.Message(
                    asked.message_method, aioice.stun.Class.RESPONSE, asked.transaction_id
                )
                told.attributes["XOR-MAPPED-ADDRESS"] = ("198.51.100.7", addr[1])
                self.transport.sendto(bytes(told), addr)

    loop = asyncio.get_running_loop()
    # On every address: machines without a network but loopback gather no address at all.
    server, _ = await loop.create_datagram_endpoint(
        StunServer, local_addr=("0.0.0.0", 0), family=socket.AF_INET
    )
    events: asyncio.Queue[FromTransport] = asyncio.Queue()
    with ThreadPoolExecutor(1) as writers:
        ice = configuration([{"urls": f"stun:127.0.0.1:{_port(server)}"}], False)
        connection = Connection(1, ice, writers, events.put_nowait)
        try:
            await connection.offer(patient=True)
            async with asyncio.timeout(DEADLINE_S):
                while (await words.get()).message_class is not aioice.stun.Class.INDICATION:
                    pass
        finally:
            await connection.close()
            server.close()


def _port(server: asyncio.DatagramTransport) -> int:
    return int(server.get_extra_info("sockname")[1])
