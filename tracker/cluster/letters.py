"""What processes of a cluster write to one another, in MessagePack: offers, and answers to them.

Whoever can write to the Redis of a cluster can write such letters. It isn't open to strangers,
but another program may use it too: what is no letter, or too large, is refused, never guessed at.
"""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta, Raw, Struct

from dreamer.protocol.errors import RemoteProtocolError
from dreamer.protocol.ids import InfoHash
from dreamer.protocol.tracker_limits import (
    CLUSTER_BATCH_LETTERS,
    CLUSTER_ENVELOPE_MAX_BYTES,
    CLUSTER_LETTER_MAX_BYTES,
    TRACKER_MAX_OFFERS,
    TRACKER_OFFER_ID_MAX_CHARS,
)
from dreamer.tracker.public.elsewhere import Bundle, ProcessId
from dreamer.tracker.public.framing import is_utf8
from dreamer.tracker.public.wire import NAME_BYTES, Answer, Offer, PeerId

_Name = Annotated[bytes, Meta(min_length=NAME_BYTES, max_length=NAME_BYTES)]
_OfferId = Annotated[str, Meta(min_length=1, max_length=TRACKER_OFFER_ID_MAX_CHARS)]
_Process = Annotated[str, Meta(pattern="^[0-9a-f]{16}$")]


class _Object(Struct):
    """Any object of JSON: only that it is one is looked at."""


class _Offered(Struct, array_like=True, forbid_unknown_fields=True, tag="offers"):
    origin: _Process
    info_hash: _Name
    sender: _Name
    seeding: bool
    offers: Annotated[
        list[tuple[_OfferId, bytes]], Meta(min_length=1, max_length=TRACKER_MAX_OFFERS)
    ]


class _Answered(Struct, array_like=True, forbid_unknown_fields=True, tag="answer"):
    info_hash: _Name
    peer_id: _Name
    to_peer_id: _Name
    offer_id: _OfferId
    answer: bytes


_write = msgspec.msgpack.Encoder().encode
_read = msgspec.msgpack.Decoder(_Offered | _Answered).decode
_read_envelope = msgspec.msgpack.Decoder(
    Annotated[list[bytes], Meta(max_length=CLUSTER_BATCH_LETTERS)]
).decode
_read_object = msgspec.json.Decoder(_Object).decode


class LetterError(RemoteProtocolError):
    """What came isn't a letter."""


def offers_letter(origin: ProcessId, bundle: Bundle) -> bytes:
    """Return the letter that takes offers from ``origin`` to another process."""
    offers = [(each.offer_id, bytes(each.offer)) for each in bundle.offers]
    return _write(_Offered(origin, bundle.info_hash, bundle.sender, bundle.seeding, offers))


def answer_letter(answer: Answer) -> bytes:
    """Return the letter that takes an answer back to where the offer came from."""
    return _write(
        _Answered(
            answer.info_hash,
            answer.peer_id,
            answer.to_peer_id,
            answer.offer_id,
            bytes(answer.answer),
        )
    )


def envelope(letters: list[bytes]) -> bytes:
    """Return several letters as one: under load, most of the work is in the carrying."""
    return _write(letters)


def open_envelope(said: bytes) -> list[bytes]:
    """Return the letters in an envelope.

    Raises:
        LetterError: it is none.
    """
    if len(said) > CLUSTER_ENVELOPE_MAX_BYTES:
        raise LetterError(f"{len(said)} bytes are no envelope")
    try:
        letters: list[bytes] = _read_envelope(said)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise LetterError(str(error)) from error
    return letters


def read_letter(letter: bytes) -> tuple[ProcessId, Bundle] | Answer:
    """Return what another process wrote: offers and where they came from, or an answer.

    Raises:
        LetterError: it is nothing of the kind.
    """
    if len(letter) > CLUSTER_LETTER_MAX_BYTES:
        raise LetterError(f"{len(letter)} bytes are no letter")
    try:
        said = _read(letter)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise LetterError(str(error)) from error
    if isinstance(said, _Answered):
        return Answer(
            InfoHash(said.info_hash),
            PeerId(said.peer_id),
            PeerId(said.to_peer_id),
            said.offer_id,
            _description(said.answer),
        )
    offers = tuple(Offer(offer_id, _description(text)) for offer_id, text in said.offers)
    sender = PeerId(said.sender)
    return ProcessId(said.origin), Bundle(InfoHash(said.info_hash), sender, said.seeding, offers)


def _description(text: bytes) -> Raw:
    # It is put into a message as it is: what isn't JSON would break that message for its reader.
    try:
        _read_object(text)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise LetterError("a session description that isn't JSON") from error
    if not is_utf8(text):
        raise LetterError("a session description that isn't text")
    return Raw(text)
