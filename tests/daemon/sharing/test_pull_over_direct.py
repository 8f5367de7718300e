"""Whole pulls over a direct connection whose other end a test plays: it lies, or it breaks."""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
import ssl
import threading
from collections.abc import AsyncIterator

import pytest

from dreamer.daemon.direct.certificate import dialling_context
from dreamer.daemon.direct.endpoint import DirectEndpoint
from dreamer.daemon.direct.lane import DirectLane
from dreamer.daemon.direct.room import DirectRoom
from dreamer.daemon.links.link import Link, LinkListener
from dreamer.protocol.link.direct import ACCEPTED, DIRECT, HEADER, DirectOpen
from dreamer.protocol.link.messages import Message, Want


class Playing(LinkListener):
    """The giver's direct lane, by hand: it dials at once, and answers one request after another.

    Each runs in a thread of its own, and OpenSSL lets no two use one connection at a time.
    """

    def __init__(self, two, answer) -> None:
        self.two = two
        self.answer = answer
        self.sock: ssl.SSLSocket | None = None
        self.port = 0
        self.turn = threading.Lock()

    def message(self, link: Link, message: Message) -> None:
        match message:
            case DirectOpen():
                self.start(self.dial, message)
            case Want(direct=True):
                self.start(self.reply, message)

    def start(self, what, *args) -> None:
        self.two.giver.tasks.start(asyncio.to_thread(what, *args))

    def dial(self, asked: DirectOpen) -> None:
        plain = socket.create_connection(("127.0.0.1", self.port), 10)
        # The first request may be here before what accepts the token is read.
        with self.turn:
            self.sock = dialling_context().wrap_socket(plain)
            self.sock.sendall(asked.token)
            assert self.sock.recv(1) == ACCEPTED

    def reply(self, want: Want) -> None:
        # The taker hangs up on the first lie, with more requests on their way.
        with self.turn, contextlib.suppress(OSError):
            self.answer(self.sock, want)

    def close(self) -> None:
        with self.turn:
            if self.sock is not None:
                self.sock.close()


@pytest.fixture
async def lane(two) -> AsyncIterator[DirectEndpoint]:
    """Give the taker a direct lane."""
    taker = two.taker
    endpoint = await DirectEndpoint.open("127.0.0.1", 0)
    room = DirectRoom(
        *(endpoint, taker.id, taker.fanout, taker.links.drop, taker.tasks),
        *(random.Random(1), lambda: 0.0, asyncio.get_running_loop()),
    )
    made = DirectLane(room)
    taker.fanout.add(made)
    two.taker_end.link.capabilities[DIRECT] = 1
    made.link_up(two.taker_end.link)
    yield endpoint
    taker.fanout.link_down(two.taker_end.link, "the test is over")
    made.close()
    await endpoint.close()


def play(two, endpoint, answer) -> Playing:
    playing = Playing(two, answer)
    playing.port = endpoint.port
    two.giver.fanout.add(playing)
    # What it is asked for over its direct connection, the test answers.
    asked = two.giver.serving.message

    def without_direct(link: Link, message: Message) -> None:
        if not (isinstance(message, Want) and message.direct):
            asked(link, message)

    two.giver.serving.message = without_direct
    return playing


async def test_connection_cut_in_the_middle_of_a_block_costs_that_block_only(
    two, lane, kit
) -> None:
    def cut(sock: ssl.SSLSocket, want: Want) -> None:
        place = two.giver.store.locate(two.manifest, want.first)
        data = place.path.read_bytes()[place.offset : place.offset + place.length]
        header = HEADER.pack(want.request, want.first, len(data))
        sock.sendall(header + data[: len(data) // 2])
        sock.close()

    playing = play(two, lane, cut)
    pulling = kit.pulling(two.taker, two.manifest, two.giver)
    await pulling.run()
    playing.close()
    assert pulling.whole
    moved = pulling.job.moved().by_lane
    assert moved["direct"] == 0
    assert moved["webrtc"] == two.manifest.size_bytes
    assert not two.taker.punished


async def test_block_with_a_wrong_hash_is_blamed_and_its_sender_banned(two, lane, kit) -> None:
    def lie(sock: ssl.SSLSocket, want: Want) -> None:
        size = two.manifest.layout.block_size(want.first)
        sock.sendall(HEADER.pack(want.request, want.first, size) + bytes(size))

    playing = play(two, lane, lie)

    pulling = kit.pulling(two.taker, two.manifest, two.giver)
    running = asyncio.create_task(pulling.run())
    await kit.until(lambda: bool(two.taker.punished))
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    playing.close()
    assert two.taker.punished == [two.giver.id]
    assert two.taker.links.dropped[0][0] == two.giver.id
    assert pulling.job.moved().blamed == [two.giver.id.hex()]
