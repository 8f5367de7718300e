"""Direct connections in the protocol: addresses in messages, marks, how many there are to be."""

from __future__ import annotations

import pytest

from dreamer.protocol.errors import RemoteProtocolError
from dreamer.protocol.ids import NodeId
from dreamer.protocol.limits import (
    DIRECT_ADDRESSES_MAX,
    DIRECT_ADDRESSES_MAX_CHARS,
    DIRECT_CONNECTIONS_MAX,
    DIRECT_GAIN_MIN,
    DIRECT_TRIAL_REPEAT_S,
    MIB,
)
from dreamer.protocol.link.direct import (
    DirectAnswer,
    DirectOpen,
    DirectRetire,
    host_mark,
    join_addresses,
    split_addresses,
)
from dreamer.protocol.link.messages import decode, encode
from dreamer.protocol.link.parallel import Parallel

NODE = NodeId(b"n" * 32)
FULL_RATE = 100 * MIB


@pytest.mark.parametrize(
    "message",
    [
        DirectOpen(1, "192.0.2.1:80 [2001:db8::1]:81", b"f" * 32, b"t" * 32, b"h" * 32),
        DirectAnswer(1, "", b"f" * 32, b"t" * 32, b"h" * 32),
        DirectRetire(7),
    ],
)
def test_messages_come_back_as_they_were(message) -> None:
    assert decode(encode(message)) == message


@pytest.mark.parametrize("field", ["fingerprint", "token", "host"])
def test_names_of_another_length_are_refused(field) -> None:
    fields = {"fingerprint": b"f" * 32, "token": b"t" * 32, "host": b"h" * 32, field: b"x" * 31}
    with pytest.raises(RemoteProtocolError):
        decode(encode(DirectOpen(1, "", **fields)))


def test_addresses_go_both_ways() -> None:
    text = join_addresses(["192.0.2.1:80", "[2001:db8::1]:81", "nas.example.org:8471"])
    assert split_addresses(text) == [
        ("192.0.2.1", 80),
        ("2001:db8::1", 81),
        ("nas.example.org", 8471),
    ]
    assert split_addresses("") == []


def test_only_as_many_addresses_as_a_peer_takes_are_told() -> None:
    many = [f"192.0.2.1:{port}" for port in range(1000, 1100)]
    assert len(split_addresses(join_addresses(many))) == DIRECT_ADDRESSES_MAX
    long = [f"{'x' * 200}:{port}" for port in range(1000, 1010)]
    assert len(join_addresses(long)) <= DIRECT_ADDRESSES_MAX_CHARS
    assert split_addresses(join_addresses(long))


def test_mark_is_of_machine_and_node() -> None:
    assert host_mark(b"one", NODE) == host_mark(b"one", NODE)
    assert host_mark(b"one", NODE) != host_mark(b"other", NODE)
    assert host_mark(b"one", NODE) != host_mark(b"one", NodeId(b"m" * 32))


class Path:
    """A lane in virtual time whose rate depends on how many connections it has."""

    def __init__(self, rates: list[float]) -> None:
        self.rates = rates
        self.parallel = Parallel()
        self.connections = 1
        self.moved = 0.0
        self.now = 0.0
        self.most = 1

    def run(self, seconds: int, busy: bool = True) -> None:
        for _ in range(seconds):
            self.now += 1.0
            self.moved += self.rates[self.connections - 1] if busy else 0
            wanted = self.parallel.tick(self.now, self.connections, int(self.moved), busy)
            self.connections = wanted
            self.most = max(self.most, wanted)


def test_connection_that_gains_nothing_is_given_up_and_not_tried_again_at_once() -> None:
    path = Path([FULL_RATE] * DIRECT_CONNECTIONS_MAX)
    path.run(20)
    assert path.most == 2
    assert path.connections == 1
    path.most = 1
    path.run(int(DIRECT_TRIAL_REPEAT_S) - 20)
    assert path.most == 1
    path.run(30)
    assert path.most == 2


def test_long_path_gets_as_many_as_gain() -> None:
    path = Path([FULL_RATE * number for number in range(1, DIRECT_CONNECTIONS_MAX + 1)])
    path.run(60)
    assert path.connections == DIRECT_CONNECTIONS_MAX


def test_gain_stops_where_the_wire_is_full() -> None:
    path = Path([FULL_RATE, 2 * FULL_RATE, 2 * FULL_RATE, 2 * FULL_RATE])
    path.run(40)
    assert path.connections == 2
    assert path.most == 3


def test_little_gain_is_not_enough() -> None:
    path = Path([FULL_RATE, FULL_RATE * (DIRECT_GAIN_MIN - 0.05)] + [FULL_RATE] * 2)
    path.run(30)
    assert path.connections == 1


def test_idle_lane_is_not_tried() -> None:
    path = Path([FULL_RATE] * DIRECT_CONNECTIONS_MAX)
    path.run(100, busy=False)
    assert path.most == 1


def test_connection_that_can_not_be_had_ends_the_trial() -> None:
    path = Path([FULL_RATE] * DIRECT_CONNECTIONS_MAX)
    while path.parallel.wanted == 1:
        path.run(1)
    path.parallel.refused(path.now)
    assert path.parallel.wanted == 1
