"""A public socket between a host and a transport that do what the test says."""

from __future__ import annotations

import asyncio

import pytest

from dreamer.protocol.tracker_limits import (
    TRACKER_FORWARDED_MAX_BYTES,
    TRACKER_MESSAGES_BURST,
    TRACKER_OUTBOX_MAX_BYTES,
    TRACKER_PUBLIC_MESSAGES_PER_TURN,
)
from dreamer.tracker.places import Places
from dreamer.tracker.public import framing
from dreamer.tracker.public import socket as public_socket
from dreamer.tracker.public.postbag import Postbag
from dreamer.tracker.public.socket import PublicSocket

DEADLINE_S = 5.0
GOODBYE = b"\x88\x82\0\0\0\0\x03\xe8"
SAID = b"\x81\x82\0\0\0\0{}"
BROKEN = b"\xff\xff"


class Listening:
    """A host that remembers what it was told."""

    def __init__(self) -> None:
        self.heard: list[bytes] = []
        self.there = 0

    def entered(self, _socket: PublicSocket) -> None:
        self.there += 1

    def take(self, _socket: PublicSocket, message: bytearray) -> None:
        self.heard.append(bytes(message))

    def left(self, _socket: PublicSocket) -> None:
        self.there -= 1


class Pipe(asyncio.Transport):
    """What is written stays to be looked at. While ``narrow``, each write is one too many."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []
        self.reading = True
        self.narrow = False
        self.closed = self.aborted = False
        self.protocol: PublicSocket

    def write(self, data: bytes) -> None:
        self.written.append(data)
        if self.narrow:
            self.protocol.pause_writing()

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True

    def is_closing(self) -> bool:
        return self.closed or self.aborted

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True


@pytest.fixture
def host():
    return Listening()


@pytest.fixture
def pipe():
    return Pipe()


@pytest.fixture
async def client(host, pipe):
    """The socket; whatever happened, it leaves nothing behind."""
    places = Places(0)
    made = PublicSocket(host, pipe, places.take("192.0.2.1"), Postbag())
    pipe.protocol = made
    yield made
    made.connection_lost(None)
    assert host.there == 0
    assert places._by_site == {}


async def test_what_others_hand_on_is_bounded_for_each_of_them_while_it_waits(client, pipe):
    client.pause_writing()
    piece = b"x" * (TRACKER_FORWARDED_MAX_BYTES // 4)
    assert [client.forward(7, piece) for _ in range(5)] == [True, True, True, False, False]
    client.post(b"of the tracker's own")
    assert not pipe.aborted
    assert pipe.written == []


async def test_client_that_reads_nothing_of_what_it_asks_for_is_cut_off(client, pipe):
    client.pause_writing()
    client.post(b"x" * (TRACKER_OUTBOX_MAX_BYTES // 2))
    assert not pipe.aborted
    client.post(b"x" * (TRACKER_OUTBOX_MAX_BYTES // 2))
    assert pipe.aborted


async def test_what_waits_is_sent_in_order_and_no_faster_than_it_is_read(client, pipe):
    client.pause_writing()
    client.post(b"1")
    client.forward(7, b"2")
    client.post(b"3")
    pipe.narrow = True
    client.resume_writing()
    assert pipe.written == [framing.text_frame(b"1")]
    client.post(b"4")
    pipe.narrow = False
    client.resume_writing()
    assert pipe.written == [framing.text_frame(text) for text in (b"1", b"2", b"3", b"4")]


async def test_turn_that_brings_much_shows_whether_the_client_reads(client, pipe):
    """Before its end, else a crowd could have one socket hold more than its bound."""
    pipe.narrow = True
    piece = b"x" * 40_000
    taken = [client.forward(sender, piece) for sender in range(100)]
    assert taken[:10] == [True] * 10
    assert not all(taken)
    assert sum(taken) * len(piece) < 2 * TRACKER_OUTBOX_MAX_BYTES


async def test_goodbye_is_answered_and_then_the_line_is_closed_at_once(client, pipe):
    client.data_received(GOODBYE)
    assert pipe.written == [b"\x88\x02\x03\xe8"]
    assert pipe.closed


async def test_nothing_has_a_meaning_after_a_mistake(client, host, pipe):
    client.data_received(SAID + BROKEN)
    client.data_received(SAID + GOODBYE)
    client.flush()
    assert host.heard == [b"{}"]
    assert pipe.written == [b"\x88\x02\x03\xea"]
    # The client's own goodbye may be on its way: it hangs up, or its time runs out.
    assert not pipe.is_closing()


async def test_what_comes_at_once_is_taken_in_turns(client, host, pipe):
    client.data_received(SAID * 6)
    client.data_received(SAID)
    assert len(host.heard) == TRACKER_PUBLIC_MESSAGES_PER_TURN
    assert not pipe.reading
    async with asyncio.timeout(DEADLINE_S):
        while not pipe.reading:
            await asyncio.sleep(0)
    assert len(host.heard) == 7


async def test_beyond_its_burst_a_client_is_read_at_its_pace(client, host, pipe, monkeypatch):
    now = public_socket._clock()
    monkeypatch.setattr(public_socket, "_clock", lambda: now)
    burst = int(TRACKER_MESSAGES_BURST)
    client.data_received(SAID * (burst + 500))
    async with asyncio.timeout(DEADLINE_S):
        while len(host.heard) < burst:
            await asyncio.sleep(0)
    for _ in range(100):
        await asyncio.sleep(0)
    # Time stands still: no more than one at each rest.
    assert len(host.heard) <= burst + 5
    assert not pipe.reading
