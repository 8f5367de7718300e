"""The control channel's bytes: what is written comes back, and nothing else is let in."""

from __future__ import annotations

from dataclasses import fields
from typing import get_args

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamer.protocol.errors import LocalProtocolError, RemoteProtocolError
from dreamer.protocol.ids import DIGEST_BYTES
from dreamer.protocol.limits import (
    CONTROL_MESSAGE_MAX_BYTES,
    OBJECT_PIECE_BYTES,
    OUTBOARD_MAX_BYTES,
)
from dreamer.protocol.link import messages
from dreamer.protocol.link.messages import (
    Follow,
    Have,
    Message,
    ObjectPiece,
    Pong,
    Want,
)
from dreamer.protocol.link.offload_messages import Advert, Ask, Text
from dreamer.protocol.offload_limits import (
    OFFLOAD_ADVERT_MAX_BYTES,
    OFFLOAD_PIECE_BYTES,
    OFFLOAD_TEXT_MAX_BYTES,
)

NAME = b"n" * 32
numbers = st.integers(-(2**63), 2**64 - 1)

KINDS = get_args(Message)
BY_TYPE = {
    int: numbers,
    bool: st.booleans(),
    str: st.text(st.characters(exclude_categories=["Cs"]), max_size=40),
    bytes: st.binary(max_size=40),
}


def any_message(kind: type) -> st.SearchStrategy[Message]:
    types = messages._FIELDS[kind.kind]
    parts = [
        st.just(NAME) if field.name in messages._NAMES else BY_TYPE[wanted]
        for field, wanted in zip(fields(kind), types, strict=True)
    ]
    return st.builds(kind, *parts)


@given(st.one_of([any_message(kind) for kind in KINDS]))
def test_every_message_comes_back_as_it_went(message: Message) -> None:
    assert messages.decode(messages.encode(message)) == message


def test_kinds_are_told_apart_by_number() -> None:
    assert len({kind.kind for kind in KINDS}) == len(KINDS)


@given(st.binary(max_size=200))
def test_random_bytes_are_a_message_or_the_peers_fault(data: bytes) -> None:
    try:
        message = messages.decode(data)
    except RemoteProtocolError:
        return
    assert isinstance(message, KINDS)


def packed(*values: object) -> bytes:
    return msgpack.packb(values)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        packed(),
        packed("1"),
        packed(True),
        packed(99, 1),
        packed(Pong.kind),
        packed(Pong.kind, 1, 2),
        packed(Pong.kind, "1"),
        packed(Pong.kind, True),
        packed(Pong.kind, 1.0),
        packed(Pong.kind, None),
        packed(Pong.kind, [1]),
        packed(Pong.kind, {}),
        packed(Pong.kind, msgpack.ExtType(1, b"x")),
        packed(Follow.kind, "m" * 32),
        packed(Follow.kind, b"m" * 31),
        packed(Follow.kind, b"m" * 100_000),
        packed(Pong.kind, 1) + b"\x01",
        packed(Pong.kind, 1)[:-1],
        msgpack.packb({1: 2}),
        b"\x92\x03\xa1\xff",
        b"\xdd\xff\xff\xff\xff",
        b"\xdc\xff\xff" * 300,
        b"\x91" * 600,
        b"\0" * (CONTROL_MESSAGE_MAX_BYTES + 1),
    ],
)
def test_what_is_no_message_is_the_peers_fault(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        messages.decode(data)


def test_a_message_larger_than_the_channel_takes_is_our_own_fault() -> None:
    with pytest.raises(LocalProtocolError, match="too large"):
        messages.encode(Have(NAME, b"\0" * CONTROL_MESSAGE_MAX_BYTES))


@pytest.mark.parametrize(
    "message", [Want(2**64, NAME, 0, 1, False), messages.Bye("\ud800")], ids=["number", "surrogate"]
)
def test_what_has_no_form_on_the_wire_is_our_own_fault(message: Message) -> None:
    with pytest.raises(LocalProtocolError, match="can't be put on the wire"):
        messages.encode(message)


@pytest.mark.parametrize(
    "largest",
    [
        ObjectPiece(2**32, 2**40, 2**40, b"\0" * OBJECT_PIECE_BYTES),
        Have(NAME, b"\0" * (OUTBOARD_MAX_BYTES // DIGEST_BYTES // 8)),
        Ask(2**32, "generate", NAME, 2**32, 2**32, b"\0" * OFFLOAD_PIECE_BYTES),
        Text(2**32, "x" * OFFLOAD_TEXT_MAX_BYTES, b"\0" * 16384, b""),
        Advert(b"\0" * OFFLOAD_ADVERT_MAX_BYTES),
    ],
)
def test_the_largest_message_of_each_kind_fits_a_channel_of_256_kib(
    largest: messages.Message,
) -> None:
    assert len(messages.encode(largest)) <= CONTROL_MESSAGE_MAX_BYTES < 262_144
