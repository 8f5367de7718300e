"""Offer and answer as texts that people carry from one machine to another, with no tracker.

``DREAMER-OFFER.`` or ``DREAMER-ANSWER.`` and the base32 of::

    1 byte    version of this form
    1 byte    length of all bytes but the checksum
    4 bytes   the start of the room's id
    32 bytes  the id of the node that speaks
    offer:    4 bytes: until when it waits for an answer, epoch seconds
    answer:   4 bytes: the start of the offer's checksum; 2 bytes: the start of the offerer's id
    the rest  ``description``
    5 bytes   checksum: BLAKE3 of the prefix and of all that stands before

Base32 and capitals, because a QR code stores them in 5.5 bits a letter, and any other text in 8.
Every byte counts: with an IPv4 and an IPv6 address the code has 45 x 45 dots, and fits 24 lines.
Spaces, line breaks and small letters are no harm. The length tells a text that was cut short from
one with a wrong letter.

Nothing in a text is secret or believed. Whoever steals one learns node ids, addresses and which
room it is about; the link itself takes the usual handshake, with a membership of the room.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from typing import assert_never

from blake3 import blake3

from dreamer.protocol.errors import InputError, LocalProtocolError
from dreamer.protocol.ids import DIGEST_BYTES, NodeId, RoomId
from dreamer.protocol.limits import CONNECT_TEXT_MAX_CHARS
from dreamer.protocol.link import description
from dreamer.protocol.link.description import Description

VERSION = 1
OFFER_PREFIX = "DREAMER-OFFER."
ANSWER_PREFIX = "DREAMER-ANSWER."
CHECKSUM_BYTES = 5
MARK_BYTES = 4
ROOM_HINT_BYTES = 4
NODE_HINT_BYTES = 2

_LENGTH_BYTES = 1
_EXPIRES_BYTES = 4
_HEAD_BYTES = 1 + _LENGTH_BYTES
_BASE32 = re.compile(r"[A-Z2-7]*", re.ASCII)
_SPACE = re.compile(r"\s+")


@dataclass(frozen=True)
class Offer:
    """A node that waits for an answer until ``expires`` (epoch seconds)."""

    room_hint: bytes
    node: NodeId
    expires: int
    description: Description

    @property
    def mark(self) -> bytes:
        """What an answer names it by."""
        return _checksum(OFFER_PREFIX, _body(self))[:MARK_BYTES]


@dataclass(frozen=True)
class Answer:
    """A node that waits for the one whose offer had ``mark`` and whose id begins with ``to``."""

    room_hint: bytes
    node: NodeId
    mark: bytes
    to: bytes
    description: Description


def hint_of(room: RoomId) -> bytes:
    """Return the start of a room's id: enough to tell one's own rooms apart."""
    return room[:ROOM_HINT_BYTES]


def encode(meeting: Offer | Answer) -> str:
    """Return the text.

    Raises:
        LocalProtocolError: it would be longer than a text may be.
    """
    prefix, body = _prefix(meeting), _body(meeting)
    raw = body + _checksum(prefix, body)
    text = prefix + base64.b32encode(raw).decode().rstrip("=")
    if len(text) > CONNECT_TEXT_MAX_CHARS:
        raise LocalProtocolError(f"an offer or answer of {len(text)} characters")
    return text


def decode(pasted: str) -> Offer | Answer:
    """Return what somebody pasted.

    Raises:
        InputError: it is none, not a whole one, has a wrong letter, or a newer form.
    """
    # White space is taken out after the bound: a megabyte is refused unread.
    if len(pasted) > 2 * CONNECT_TEXT_MAX_CHARS:
        raise InputError("this is too long to be an offer or an answer: paste the one line only")
    text = _SPACE.sub("", pasted).upper()
    for prefix in (OFFER_PREFIX, ANSWER_PREFIX):
        if text.startswith(prefix):
            return _parse(prefix, _checked(prefix, text.removeprefix(prefix)))
    raise InputError(
        "this is no text of 'dreamer connect': it begins with DREAMER-OFFER or DREAMER-ANSWER"
    )


def _prefix(meeting: Offer | Answer) -> str:
    return OFFER_PREFIX if isinstance(meeting, Offer) else ANSWER_PREFIX


def _body(meeting: Offer | Answer) -> bytes:
    match meeting:
        case Offer():
            own = meeting.expires.to_bytes(_EXPIRES_BYTES)
        case Answer():
            own = meeting.mark + meeting.to
        case _:
            assert_never(meeting)
    rest = meeting.room_hint + meeting.node + own + meeting.description.encode()
    return bytes([VERSION]) + (_HEAD_BYTES + len(rest)).to_bytes(_LENGTH_BYTES) + rest


def _checked(prefix: str, letters: str) -> bytes:
    """Return the bytes before the checksum, once it is sure that they are whole."""
    raw = _unarmoured(prefix, letters)
    declared = int.from_bytes(raw[1:_HEAD_BYTES]) + CHECKSUM_BYTES
    if len(raw) < max(declared, _HEAD_BYTES + CHECKSUM_BYTES):
        raise InputError(
            f"this text is cut short: only {len(letters)} letters came after {prefix}; copy all"
        )
    body = raw[:-CHECKSUM_BYTES]
    # Base32 spells the same bytes in several ways; a changed letter must never go unnoticed.
    spelled = base64.b32encode(raw).decode().rstrip("=") == letters
    if len(raw) != declared or _checksum(prefix, body) != raw[-CHECKSUM_BYTES:] or not spelled:
        raise InputError("this text has a wrong letter, or some too many: copy it again")
    return body


def _unarmoured(prefix: str, letters: str) -> bytes:
    if not _BASE32.fullmatch(letters):
        raise InputError(f"after {prefix} come only letters and the digits 2 to 7: copy it again")
    # Any number of letters is read here, so that a text cut short is called that.
    whole = letters[: len(letters) - _odd_letters(len(letters))]
    return base64.b32decode(whole + "=" * (-len(whole) % 8))


def _odd_letters(count: int) -> int:
    """Return how many letters at the end make no whole byte: base32 has no 1, 3 or 6 left over."""
    return {1: 1, 3: 1, 6: 1}.get(count % 8, 0)


def _checksum(prefix: str, body: bytes) -> bytes:
    return blake3(prefix.encode() + body).digest(length=CHECKSUM_BYTES)


def _parse(prefix: str, body: bytes) -> Offer | Answer:
    if body[0] != VERSION:
        raise InputError(
            f"this text has form {body[0]}, this machine's Dreamer reads form {VERSION}: use the "
            "same version on both"
        )
    fields = [ROOM_HINT_BYTES, DIGEST_BYTES]
    fields += [_EXPIRES_BYTES] if prefix == OFFER_PREFIX else [MARK_BYTES, NODE_HINT_BYTES]
    taken, rest = [], body[_HEAD_BYTES:]
    for size in fields:
        taken.append(rest[:size])
        rest = rest[size:]
    described = description.decode(rest)
    room_hint, node, *own = taken
    if prefix == OFFER_PREFIX:
        return Offer(room_hint, NodeId(node), int.from_bytes(own[0]), described)
    return Answer(room_hint, NodeId(node), own[0], own[1], described)
