"""Who is at the other end: every way to pretend to be somebody else."""

from __future__ import annotations

from dataclasses import replace

import pytest

from dreamer.protocol.errors import ForbiddenError, RemoteProtocolError
from dreamer.protocol.ids import NodeId, RoomId
from dreamer.protocol.link.handshake import Fingerprints, Party, accept, hello
from dreamer.protocol.link.messages import Hello
from dreamer.protocol.rooms.keys import Purpose, SigningKey

ROOM, OTHER_ROOM = RoomId(b"r" * 32), RoomId(b"s" * 32)
ALICE, BOB, MALLORY = (SigningKey(bytes([n]) * 32) for n in (1, 2, 3))
A, B, M = (NodeId(key.public) for key in (ALICE, BOB, MALLORY))
SEEN_BY_A = Fingerprints(b"a" * 32, b"b" * 32)
SEEN_BY_B = Fingerprints(b"b" * 32, b"a" * 32)


def party(key: SigningKey, room: RoomId = ROOM, capabilities: bytes = b'{"name":"x"}') -> Party:
    return Party(room, key, key.public, capabilities)


def member(chain: bytes) -> NodeId:
    """In these tests a chain is the public key itself, and M is no member."""
    if chain == M:
        raise ForbiddenError("not a member")
    return NodeId(chain)


def accepted(message: Hello, seen: Fingerprints = SEEN_BY_B):
    return accept(party(BOB), A, seen, message, member)


def test_two_members_that_see_each_other_accept() -> None:
    assert accepted(hello(party(ALICE), B, SEEN_BY_A)) == {"name": "x"}


def test_fingerprints_seen_differently_are_refused() -> None:
    message = hello(party(ALICE), B, SEEN_BY_A)
    for wrong in (
        Fingerprints(b"m" * 32, b"a" * 32),
        Fingerprints(b"b" * 32, b"m" * 32),
        SEEN_BY_A,
    ):
        with pytest.raises(ForbiddenError):
            accepted(message, wrong)


@pytest.mark.parametrize(
    "message",
    [
        hello(party(ALICE), M, SEEN_BY_A),
        hello(party(ALICE, OTHER_ROOM), B, SEEN_BY_A),
        replace(hello(party(MALLORY), B, SEEN_BY_A), node=A, chain=A),
        replace(hello(party(ALICE), B, SEEN_BY_A), chain=M),
        replace(hello(party(ALICE), B, SEEN_BY_A), chain=B),
        replace(hello(party(ALICE), B, SEEN_BY_A), signature=b""),
        replace(
            hello(party(ALICE), B, SEEN_BY_A),
            signature=ALICE.sign(Purpose.TRACKER_LOGIN, ROOM + A + B + b"a" * 32 + b"b" * 32),
        ),
    ],
    ids=["for another", "another room", "no key", "no member", "another's", "none", "purpose"],
)
def test_a_proof_that_is_not_for_this_link_is_refused(message: Hello) -> None:
    with pytest.raises(ForbiddenError):
        accepted(message)


def test_our_own_hello_sent_back_is_refused() -> None:
    with pytest.raises(RemoteProtocolError, match="another node"):
        accepted(hello(party(BOB), A, SEEN_BY_B))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"version": 2}, "upgrade"),
        ({"node": M}, "another node"),
        ({"capabilities": b"[]"}, "capabilities"),
        ({"capabilities": b"\xff"}, "capabilities"),
        ({"capabilities": b"[" * 100_000}, "capabilities"),
    ],
)
def test_a_hello_of_another_form_is_the_peers_fault(change, said) -> None:
    with pytest.raises(RemoteProtocolError, match=said):
        accepted(replace(hello(party(ALICE), B, SEEN_BY_A), **change))
