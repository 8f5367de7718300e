"""Peers and trackers that talk out of turn, and bounds on what they can cost."""

from __future__ import annotations

import pytest

from dreamer.daemon.transport.vocabulary import (
    CloseLink,
    LocalDescription,
    SendControl,
)
from dreamer.protocol.errors import LocalError, RemoteProtocolError
from dreamer.protocol.limits import (
    CONTROL_MESSAGE_MAX_BYTES,
    LINK_HANDSHAKE_TIMEOUT_S,
    LINKS_MAX_PER_NODE,
)
from dreamer.protocol.link import messages
from dreamer.protocol.link.messages import Follow, Hello, decode

MODEL = b"m" * 32


def linked(one, other) -> bool:
    return one.linked(other) and other.linked(one)


def apart(one, other) -> bool:
    return not one.linked(other) and not other.linked(one)


def said(member) -> list[messages.Message]:
    """The control messages that a member sent."""
    sent = [one.data for one in member.transport.commands if isinstance(one, SendControl)]
    return [decode(data) for data in sent]


# Talking out of turn


def opened_but_silent(room, pair):
    """Two connected ends of which the second has not said hello."""
    one, other = pair
    other.transport.on_event = lambda event: (
        other.links.transport_event(event) if isinstance(event, LocalDescription) else None
    )
    one.links.connect(other.id)
    room.settle()
    return one, other


def test_a_message_before_hello_closes_the_connection(room, pair) -> None:
    one, other = opened_but_silent(room, pair)
    other.inject(one, Follow(MODEL))
    room.settle()
    assert one.heard.messages == []
    assert not one.links.connecting(other.id)
    assert any(isinstance(command, CloseLink) for command in one.transport.commands)


def test_a_peer_that_never_says_hello_is_closed_in_seconds(room, pair) -> None:
    one, other = opened_but_silent(room, pair)
    room.tick(LINK_HANDSHAKE_TIMEOUT_S - 1)
    assert one.links.connecting(other.id)
    room.tick(1)
    assert not one.links.connecting(other.id)
    assert any(isinstance(command, CloseLink) for command in one.transport.commands)


def test_a_second_hello_closes_the_link(room, pair) -> None:
    one, other = pair
    one.links.connect(other.id)
    room.settle()
    again = next(message for message in said(other) if isinstance(message, Hello))
    other.inject(one, again)
    room.settle()
    assert apart(one, other)


@pytest.mark.parametrize(
    "nonsense",
    [
        b"",
        b"\xc1",
        b"\x93\x01",
        b"\x81\x01\x02",
        b"\x91\xcd\xff\xff",
        b"\xdd\xff\xff\xff\xff",
        b"\x91" * 5000 + b"\x01",
        b"\0" * (CONTROL_MESSAGE_MAX_BYTES + 1),
    ],
    ids=["empty", "reserved", "cut short", "a map", "unknown", "huge array", "deep", "huge"],
)
def test_nonsense_closes_the_link_and_nothing_else(room, pair, nonsense: bytes) -> None:
    one, other = pair
    third = room.member(8)
    one.links.connect(other.id)
    one.links.connect(third.id)
    room.settle()
    other.transport.send(SendControl(1, nonsense))
    room.settle()
    assert apart(one, other)
    assert linked(one, third)


@pytest.mark.parametrize("error", [RemoteProtocolError("nonsense"), LocalError("disk full")])
def test_whatever_a_message_leads_to_costs_only_its_link(room, pair, error) -> None:
    one, other = pair

    def fail(link, message):
        raise error

    one.heard.message = fail
    one.links.connect(other.id)
    room.settle()
    other.links.link(one.id).send(Follow(MODEL))
    room.settle()
    assert apart(one, other)
    one.heard.message = lambda link, message: None
    room.tick(2)
    one.links.connect(other.id)
    room.settle()
    assert linked(one, other), "and it can come back"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"kind": "dance", "attempt": 1, "sdp": ""},
        {"kind": "offer", "attempt": "1", "sdp": ""},
        {"kind": "offer", "attempt": True, "sdp": ""},
        {"kind": "offer", "attempt": 1, "sdp": None},
        {"kind": "offer", "attempt": 1, "sdp": "x" * 70_000},
        {"kind": ["offer"], "attempt": 1, "sdp": ""},
    ],
)
def test_a_malformed_signal_is_ignored(room, pair, body) -> None:
    one, other = pair
    other.links.signal_received(one.id, body)
    one.links.signal_received(other.id, body)
    room.settle()
    assert room.signals == []
    one.links.connect(other.id)
    room.settle()
    assert linked(one, other)


def test_an_answer_to_an_older_attempt_is_ignored(room, pair) -> None:
    one, other = pair
    one.links.connect(other.id)
    one.links.signal_received(other.id, {"kind": "answer", "attempt": 0, "sdp": "late"})
    room.settle()
    assert linked(one, other)


# Bounds


def test_links_are_bounded_and_former_peers_have_no_privilege(room, pair) -> None:
    one, other = pair
    one.links.connect(other.id)
    room.settle()
    one.links.drop(other.id, "for now")
    room.settle()
    crowd = [room.member(number) for number in range(10, 10 + LINKS_MAX_PER_NODE)]
    for member in crowd:
        member.links.connect(one.id)
    room.settle()
    assert len(one.links.links) == LINKS_MAX_PER_NODE
    one.links.connect(other.id)
    other.links.connect(one.id)
    room.settle()
    assert apart(one, other)


def test_names_that_a_tracker_makes_up_are_not_remembered(room, pair) -> None:
    one, _ = pair
    for number in range(1000):
        one.links.signal_received(number.to_bytes(32, "big"), {"kind": "nonsense"})
    room.tick(1)
    assert one.links._negotiations == {}
