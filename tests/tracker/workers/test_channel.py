"""One end of a channel to the other, in one process."""

from __future__ import annotations

import os
import socket

import pytest

from dreamer.protocol.tracker_limits import WORKER_HANDOVER_MAX_BYTES
from dreamer.tracker.places import Places
from dreamer.tracker.workers.channel import Begin, Channel, ClosedError, Ready, Report, Serve, pair
from dreamer.tracker.workers.crew import Crew


@pytest.fixture
def ends():
    ours, theirs = pair()
    other = Channel(theirs)
    yield ours, other
    ours.close()
    other.close()


def test_notes_arrive_whole_and_in_order(ends):
    ours, other = ends
    notes = [Begin("redis://"), Ready(), Report({"sockets": 2}, [1, 2, 3])]
    for note in notes:
        assert ours.send(note)
    assert [note for note, _ in other.receive()] == notes
    assert list(other.receive()) == []


def test_descriptor_comes_along_and_is_another_one_of_the_same_connection(ends):
    ours, other = ends
    near, far = socket.socketpair()
    data = b"x" * WORKER_HANDOVER_MAX_BYTES
    with near, far:
        assert ours.send(Serve(7, data), near.fileno())
        [(note, descriptor)] = other.receive()
        assert note == Serve(7, data)
        near.close()
        os.write(descriptor, b"still open")
        os.close(descriptor)
        assert far.recv(100) == b"still open"
        assert far.recv(100) == b""


def test_end_of_the_other_side_and_nonsense_are_told_apart_from_silence(ends):
    ours, other = ends
    ours._end.send(b"\xc1")
    with pytest.raises(ClosedError):
        list(other.receive())
    ours.close()
    with pytest.raises(ClosedError):
        list(other.receive())
    assert not other.send(Ready())


def test_full_channel_takes_no_more_and_does_not_wait(ends):
    ours, other = ends
    while ours.send(Report({}, list(range(1000)))):
        pass
    for _ in other.receive():
        pass
    assert ours.send(Ready())


class Connection:
    """A transport of asyncio, as far as handing it over goes."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end

    def get_extra_info(self, name: str) -> socket.socket:
        return self._end


def test_connection_stays_here_if_nobody_can_take_it_or_too_much_was_said():
    crew, place = Crew(2, "redis://"), Places(0).take("127.0.0.1")
    near, far = socket.socketpair()
    with near, far:
        assert not crew.hand_over(Connection(near), b"x" * (WORKER_HANDOVER_MAX_BYTES + 1), place)
        assert not crew.hand_over(Connection(near), b"GET / HTTP/1.1\r\n\r\n", place)
