"""Two peer connections on one loop, with our association at one end or both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from random import Random

import aiortc
import pytest
from aiortc import RTCConfiguration, RTCDataChannel, RTCPeerConnection, rtcpeerconnection
from aiortc.rtcsctptransport import RTCSctpTransport, SackChunk

from dreamer.daemon.transport import association, sctp_sending
from dreamer.daemon.transport.association import Association

KIB = 1024
DEADLINE_S = 30.0

Garble = Callable[[bytes], list[bytes]]
"""What becomes of a datagram on its way."""


@dataclass
class End:
    """A peer connection, its two channels, and what came over each."""

    pc: RTCPeerConnection
    channels: dict[str, RTCDataChannel] = field(default_factory=dict)
    came: asyncio.Queue[tuple[str, bytes]] = field(default_factory=asyncio.Queue)
    open: asyncio.Event = field(default_factory=asyncio.Event)

    def take(self, channel: RTCDataChannel) -> None:
        self.channels[channel.label] = channel
        channel.on("message", lambda data: self.came.put_nowait((channel.label, data)))
        channel.on("open", self.look)
        channel.on("close", lambda: self.came.put_nowait((channel.label, b"closed")))
        self.look()

    def look(self) -> None:
        if len(self.channels) == 2 and all(c.readyState == "open" for c in self.channels.values()):
            self.open.set()

    @property
    def sctp(self) -> RTCSctpTransport:
        return self.pc.sctp

    async def next(self) -> tuple[str, bytes]:
        async with asyncio.timeout(DEADLINE_S):
            return await self.came.get()

    def garbled(self, garble: Garble) -> None:
        """Let what this end sends from now on meet a bad network."""
        for protocol in self.sctp.transport.transport._connection._protocols:
            protocol.transport = BadNetwork(protocol.transport, garble)


class BadNetwork:
    def __init__(self, inner: asyncio.DatagramTransport, garble: Garble) -> None:
        self.inner = inner
        self.garble = garble

    def sendto(self, data: bytes, addr: tuple[str, int]) -> None:
        for each in self.garble(data):
            self.inner.sendto(each, addr)

    def __getattr__(self, name: str) -> object:
        return getattr(self.inner, name)


class Pairs:
    """Makes linked ends and closes them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._patch = monkeypatch
        self.ends: list[End] = []

    async def linked(self, ours: type, theirs: type) -> tuple[End, End]:
        a, b = (End(RTCPeerConnection(RTCConfiguration(iceServers=[]))) for _ in range(2))
        self.ends += [a, b]
        self._patch.setattr(rtcpeerconnection, "RTCSctpTransport", ours)
        a.take(a.pc.createDataChannel("control"))
        a.take(a.pc.createDataChannel("bulk", ordered=False))
        b.pc.on("datachannel", b.take)
        await a.pc.setLocalDescription(await a.pc.createOffer())
        self._patch.setattr(rtcpeerconnection, "RTCSctpTransport", theirs)
        await b.pc.setRemoteDescription(a.pc.localDescription)
        await b.pc.setLocalDescription(await b.pc.createAnswer())
        await a.pc.setRemoteDescription(b.pc.localDescription)
        async with asyncio.timeout(DEADLINE_S):
            await a.open.wait()
            await b.open.wait()
        assert (type(a.sctp), type(b.sctp)) == (ours, theirs)
        return a, b


@pytest.fixture
async def pairs(monkeypatch) -> AsyncIterator[Pairs]:
    made = Pairs(monkeypatch)
    yield made
    for end in made.ends:
        await end.pc.close()


def pieces(seed: int, count: int, size: int) -> list[bytes]:
    rng = Random(seed)
    return [rng.randbytes(size) for _ in range(count)]


KINDS = pytest.mark.parametrize(
    ("ours", "theirs"),
    [(Association, Association), (Association, RTCSctpTransport), (RTCSctpTransport, Association)],
    ids=["both", "to stock aiortc", "from stock aiortc"],
)


@KINDS
async def test_messages_of_both_channels_arrive_whole_both_ways(pairs, ours, theirs) -> None:
    a, b = await pairs.linked(ours, theirs)
    bulk, words = pieces(1, 12, 128 * KIB), pieces(2, 40, 700)
    for end in (a, b):
        for data in bulk:
            end.channels["bulk"].send(data)
        for data in words:
            end.channels["control"].send(data)
    for end in (a, b):
        came = [await end.next() for _ in range(len(bulk) + len(words))]
        assert [data for label, data in came if label == "control"] == words
        assert sorted(data for label, data in came if label == "bulk") == sorted(bulk)


@KINDS
@pytest.mark.parametrize("seed", [1, 2])
async def test_a_network_that_loses_swaps_and_repeats_costs_no_message(
    pairs, ours, theirs, seed: int
) -> None:
    a, b = await pairs.linked(ours, theirs)
    rng, held = Random(seed), []

    def garble(data: bytes) -> list[bytes]:
        match rng.random():
            case chance if chance < 0.02:
                return []
            case chance if chance < 0.04:
                return [data, data]
            case chance if chance < 0.08:
                held.append(data)
                return []
        late, held[:] = held[:], []
        return [data, *late]

    for end in (a, b):
        end.garbled(garble)
    bulk, words = pieces(3, 8, 64 * KIB), pieces(4, 40, 900)
    for data in bulk:
        a.channels["bulk"].send(data)
    for data in words:
        a.channels["control"].send(data)
    came = [await b.next() for _ in range(len(bulk) + len(words))]
    assert [data for label, data in came if label == "control"] == words
    assert sorted(data for label, data in came if label == "bulk") == sorted(bulk)


async def test_control_overtakes_bulk_that_waits(pairs) -> None:
    a, b = await pairs.linked(Association, Association)
    for data in pieces(5, 6, 128 * KIB):
        a.channels["bulk"].send(data)
    a.channels["control"].send(b"urgent")
    order = [(await b.next())[0] for _ in range(7)]
    # What has been cut into fragments can't be overtaken; what waits whole is.
    assert order.index("control") <= 1


async def test_packets_read_in_one_go_share_acknowledgements(pairs) -> None:
    a, b = await pairs.linked(Association, Association)
    sent, answered, held = 0, 0, []
    ice = b.sctp.transport.transport._connection

    def in_one_go(data: bytes) -> list[bytes]:
        nonlocal sent
        sent += 1
        if not held:
            asyncio.get_running_loop().call_soon(hand_over)
        held.append(data)
        return []

    def hand_over() -> None:
        for data in held:
            ice.data_received(data, 1)
        held.clear()

    def count(data: bytes) -> list[bytes]:
        nonlocal answered
        answered += 1
        return [data]

    a.garbled(in_one_go)
    b.garbled(count)
    for data in pieces(6, 8, 128 * KIB):
        a.channels["bulk"].send(data)
    for _ in range(8):
        await b.next()
    assert sent > 8 * 112
    assert sent / 2 <= answered < 0.6 * sent


async def test_a_datagram_that_makes_no_sense_is_passed_over(pairs) -> None:
    a, b = await pairs.linked(Association, Association)
    ice = b.sctp.transport.transport._connection
    for nonsense in (b"", b"\x17", b"\x17" + bytes(60), b"\x3f" * 1200, bytes(40)):
        ice.data_received(nonsense, 1)
    # What a stranger can't make and a member can: valid DTLS, broken SCTP.
    dtls = a.sctp.transport
    tag = a.sctp._remote_verification_tag.to_bytes(4, "big")
    for packet in (b"", b"x", bytes(16), bytes(4) + tag + bytes(4) + b"\0\3\0\x14" + bytes(20)):
        if packet:
            await dtls._send_data(packet)
    a.channels["control"].send(b"still here")
    assert await b.next() == ("control", b"still here")


async def test_the_end_of_one_connection_is_the_end_of_the_other(pairs) -> None:
    a, b = await pairs.linked(Association, Association)
    await a.pc.close()
    assert (await b.next())[1] == b"closed"


async def test_a_standing_queue_on_a_short_path_closes_the_window(pairs) -> None:
    a, _ = await pairs.linked(Association, Association)
    sctp = a.sctp
    sctp._shortest_s, sctp._srtt = 0.001, 0.001 + 2 * sctp_sending.QUEUE_DELAY_MAX_S
    sctp._cwnd = before = 8 * sctp_sending.WINDOW_ENOUGH_BYTES
    sctp._open_window(0, before, full=True)
    assert sctp._cwnd == before * 7 // 8
    for _ in range(100):
        sctp._open_window(0, before, full=True)
    assert sctp._cwnd < 1.1 * sctp_sending.WINDOW_ENOUGH_BYTES


async def test_what_is_in_flight_grows_with_an_acknowledgement_of_several(pairs) -> None:
    a, _ = await pairs.linked(Association, Association)
    sctp = a.sctp
    a.garbled(lambda data: [])
    sctp._cwnd = 1000 * sctp_sending.USERDATA_MAX_LENGTH
    a.channels["bulk"].send(bytes(256 * KIB))
    async with asyncio.timeout(DEADLINE_S):
        while len(sctp._sent_queue) < 2:
            await asyncio.sleep(0)
    before = len(sctp._sent_queue)
    sack = SackChunk()
    sack.cumulative_tsn = sctp._sent_queue[1].tsn
    sctp._acknowledged(sack)
    assert len(sctp._sent_queue) == before + sctp_sending.BURST_PACKETS


async def test_one_very_late_answer_does_not_delay_what_is_sent_again_for_long(pairs) -> None:
    a, _ = await pairs.linked(Association, Association)
    a.sctp._measure(20.0)
    assert a.sctp._rto == sctp_sending.RTO_MAX_S


async def test_a_long_path_keeps_its_window_whatever_the_delay(pairs) -> None:
    a, _ = await pairs.linked(Association, Association)
    sctp = a.sctp
    sctp._shortest_s, sctp._srtt = 2 * sctp_sending.SHORT_PATH_S, 1.0
    sctp._cwnd = before = 8 * sctp_sending.WINDOW_ENOUGH_BYTES
    sctp._ssthresh = 2 * before
    sctp._open_window(0, before, full=True)
    assert sctp._cwnd > before


def test_an_aiortc_that_is_not_known_is_left_as_it_is(monkeypatch) -> None:
    monkeypatch.setattr(rtcpeerconnection, "RTCSctpTransport", RTCSctpTransport)
    monkeypatch.setattr(aiortc, "__version__", "2.0.0")
    assert not association.install()
    assert rtcpeerconnection.RTCSctpTransport is RTCSctpTransport
    monkeypatch.setattr(aiortc, "__version__", "1.16.0")
    assert association.install()
    assert rtcpeerconnection.RTCSctpTransport is Association
