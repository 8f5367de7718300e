"""The WebTorrent tracker protocol: JSON to values and back, permissive where clients differ.

Text or binary frames; info hashes and peer ids are strings of 20 characters, one code point per
byte. A failure must carry an ``action``, or stock clients drop the socket and back off for
minutes (seen in bittorrent-tracker 11.2 and libtorrent 2.1).

A message is read in one of two ways. What stock clients send is read straight into its type, and
the session descriptions in it stay the text that they are (``msgspec.Raw``): the tracker passes
on what came, byte for byte. Anything else goes through ``json`` and is looked at field by field;
what is passed on is then written anew. The second way says what is right, and is the slower one.
"""

from __future__ import annotations

import json
from enum import Enum
from functools import lru_cache
from math import isfinite
from typing import Any, NewType

from msgspec import DecodeError, Raw, Struct
from msgspec.json import Decoder, encode

from dreamer.protocol.canonical import Json
from dreamer.protocol.errors import RemoteProtocolError
from dreamer.protocol.ids import InfoHash
from dreamer.protocol.tracker_limits import (
    TRACKER_ANNOUNCE_INTERVAL_S,
    TRACKER_MAX_OFFERS,
    TRACKER_OFFER_ID_MAX_CHARS,
    TRACKER_SCRAPE_MAX_SWARMS,
)

PeerId = NewType("PeerId", bytes)
"""The 20 bytes by which a WebTorrent client names itself."""

NAME_BYTES = 20


class Event(Enum):
    """Why a client announces; ``NONE`` is the regular announce."""

    STARTED = "started"
    STOPPED = "stopped"
    COMPLETED = "completed"
    UPDATE = "update"
    PAUSED = "paused"
    NONE = ""


_EVENTS: dict[str | None, Event] = {None: Event.NONE, **{each.value: each for each in Event}}


class AnnounceError(RemoteProtocolError):
    """A message that a client is told is wrong; ``action`` and ``info_hash`` go with the reply."""

    def __init__(self, reason: str, action: str = "announce", info_hash: str | None = None) -> None:
        super().__init__(reason)
        self.action = action
        self.info_hash = info_hash


# Structs, where others are dataclasses: msgspec fills them in C, and makes one in a tenth of the
# time. They hold no cycles, so the garbage collector needn't look at them.


class Offer(Struct, frozen=True, gc=False):
    """A session description to pass on to one peer, in JSON: ``bytes(offer.offer)`` is its text."""

    offer_id: str
    offer: Raw


class Announce(Struct, frozen=True, gc=False):
    """A client's presence in a swarm. ``left`` is in bytes; None when the client doesn't know."""

    info_hash: InfoHash
    peer_id: PeerId
    event: Event
    left: int | None
    offers: tuple[Offer, ...]


class Answer(Struct, frozen=True, gc=False):
    """A session description, in JSON, that answers an offer passed on before."""

    info_hash: InfoHash
    peer_id: PeerId
    to_peer_id: PeerId
    offer_id: str
    answer: Raw


class Scrape(Struct, frozen=True, gc=False):
    """A question for counts; None asks for every swarm."""

    info_hashes: tuple[InfoHash, ...] | None


class Counts(Struct, frozen=True, gc=False):
    """What a scrape says of a swarm: seeders, leechers, and downloads completed."""

    complete: int
    incomplete: int
    downloaded: int


_NO_ANSWER = Raw()


class _Usual(Struct, gc=False):
    """An announce or an answer as stock clients write it."""

    action: str
    info_hash: str
    peer_id: str
    event: str | None = None
    left: int | float | None = None
    numwant: int | None = None
    offers: list[Offer] | None = None
    to_peer_id: str | None = None
    offer_id: str | None = None
    answer: Raw = _NO_ANSWER


class _Description(Struct, gc=False):
    """What an offer must have at least."""

    sdp: str


_read_usual = Decoder(_Usual).decode
_read_description = Decoder(_Description).decode


def parse(message: bytes | bytearray) -> Announce | Answer | Scrape:
    """Return what a client said in ``message``, which must be UTF-8.

    Not checked here, for ``socket`` has done so: of what is passed on unread, one bad byte
    would cost its receiver the socket.

    Raises:
        AnnounceError: the message can't be used; the reply names the reason.
    """
    return _parse_usual(message) or _parse_unusual(message)


def _parse_usual(message: bytes | bytearray) -> Announce | Answer | None:
    # Whatever is wrong is left to the other way, which says what it is.
    try:
        said = _read_usual(message)
        info_hash, peer_id = said.info_hash.encode("latin-1"), said.peer_id.encode("latin-1")
    except (DecodeError, UnicodeError, RecursionError):
        return None
    if said.action != "announce" or not len(info_hash) == len(peer_id) == NAME_BYTES:
        return None
    if said.answer is not _NO_ANSWER:
        return _usual_answer(said, InfoHash(info_hash), PeerId(peer_id))
    offers = _usual_offers(said.offers, said.numwant) if said.offers else ()
    event = _EVENTS.get(said.event)
    if offers is None or event is None:
        return None
    return Announce(InfoHash(info_hash), PeerId(peer_id), event, _left(said.left), offers)


def _usual_answer(said: _Usual, info_hash: InfoHash, peer_id: PeerId) -> Answer | None:
    to_peer_id, offer_id = _bytes(said.to_peer_id), said.offer_id
    if to_peer_id is None or not offer_id or len(offer_id) > TRACKER_OFFER_ID_MAX_CHARS:
        return None
    if not bytes(said.answer).startswith(b"{"):
        return None
    return Answer(info_hash, peer_id, PeerId(to_peer_id), offer_id, said.answer)


def _usual_offers(offers: list[Offer], numwant: int | None) -> tuple[Offer, ...] | None:
    taken = tuple(offers[: _most(numwant)])
    for each in taken:
        if not 0 < len(each.offer_id) <= TRACKER_OFFER_ID_MAX_CHARS:
            return None
        if not _is_description(each.offer):
            return None
    return taken


def _is_description(text: Raw) -> bool:
    try:
        _read_description(text)
    except (DecodeError, UnicodeError):
        return False
    return True


def _parse_unusual(message: bytes | bytearray) -> Announce | Answer | Scrape:
    said = _object(message)
    action = said.get("action")
    if action == "scrape":
        return _scrape(said.get("info_hash"))
    if action != "announce":
        raise AnnounceError("unknown action: announce or scrape")
    shown = said.get("info_hash")
    info_hash = InfoHash(_named(shown, "info_hash", shown))
    peer_id = PeerId(_named(said.get("peer_id"), "peer_id", shown))
    # Clients mark an answer by its presence alone; the action is the same.
    if isinstance(said.get("answer"), dict):
        to_peer_id = PeerId(_named(said.get("to_peer_id"), "to_peer_id", shown))
        offer_id = _checked_id(said.get("offer_id"), shown)
        return Answer(info_hash, peer_id, to_peer_id, offer_id, _raw(said["answer"]))
    return Announce(
        info_hash, peer_id, _event(said.get("event"), shown), _left(said.get("left")), _offers(said)
    )


def _object(message: bytes | bytearray) -> Json:
    try:
        said = json.loads(message, parse_float=_number, parse_constant=_no_number)
    except (ValueError, RecursionError) as error:
        raise AnnounceError("not JSON") from error
    if not isinstance(said, dict):
        raise AnnounceError("not a JSON object")
    return said


def _number(text: str) -> float | None:
    value = float(text)
    return value if isfinite(value) else None


def _no_number(_text: str) -> None:
    # Infinity and NaN say nothing, and aren't JSON: written anew, they mustn't come back.
    return None


def _scrape(asked: object) -> Scrape:
    if asked is None:
        return Scrape(None)
    names = asked if isinstance(asked, list) else [asked]
    if len(names) > TRACKER_SCRAPE_MAX_SWARMS:
        raise AnnounceError(f"scrape {TRACKER_SCRAPE_MAX_SWARMS} swarms at most", "scrape")
    found = [_bytes(name) for name in names]
    if any(name is None for name in found):
        raise AnnounceError("info_hash must have 20 characters, one a byte", "scrape")
    return Scrape(tuple(InfoHash(name) for name in found if name is not None))


def _bytes(value: object) -> bytes | None:
    if isinstance(value, str) and len(value) == NAME_BYTES:
        try:
            return value.encode("latin-1")
        except UnicodeEncodeError:
            return None
    return None


def _named(value: object, field: str, info_hash: object) -> bytes:
    name = _bytes(value)
    if name is None:
        raise AnnounceError(
            f"{field} must have 20 characters, one a byte", info_hash=_echo(info_hash)
        )
    return name


def _echo(value: object) -> str | None:
    return value if isinstance(value, str) and len(value) <= 2 * NAME_BYTES else None


def _event(value: object, info_hash: object) -> Event:
    # Whatever is empty says nothing: null, "", and what clients make of them.
    event = _EVENTS.get(value) if isinstance(value, str) else None if value else Event.NONE
    if event is None:
        raise AnnounceError("unknown event", info_hash=_echo(info_hash))
    return event


def _left(value: object) -> int | None:
    # Magnet links have no length yet: clients say null, Infinity or leave it out.
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1 << 63:
        return int(value)
    return None


def _checked_id(offer_id: object, info_hash: object) -> str:
    if isinstance(offer_id, str) and 0 < len(offer_id) <= TRACKER_OFFER_ID_MAX_CHARS:
        return offer_id
    raise AnnounceError("offer_id must be a short string", info_hash=_echo(info_hash))


def _offers(said: Json) -> tuple[Offer, ...]:
    offers = said.get("offers")
    if not isinstance(offers, list):
        return ()
    # One malformed offer must not cost the client its announce.
    usable = [
        each
        for each in offers[: _most(said.get("numwant"))]
        if isinstance(each, dict) and _is_sdp(each.get("offer"))
    ]
    shown = said.get("info_hash")
    return tuple(
        Offer(_checked_id(each.get("offer_id"), shown), _raw(each["offer"])) for each in usable
    )


def _most(numwant: object) -> int:
    if isinstance(numwant, int) and numwant >= 0:
        return min(TRACKER_MAX_OFFERS, numwant)
    return TRACKER_MAX_OFFERS


def _is_sdp(value: object) -> bool:
    return isinstance(value, dict) and isinstance(value.get("sdp"), str)


def _raw(value: Json) -> Raw:
    return Raw(_dump(value))


def text_of(name: bytes) -> str:
    """Return a 20-byte name as it stands in a message."""
    return name.decode("latin-1")


_INTERVAL = b"%d" % TRACKER_ANNOUNCE_INTERVAL_S


def reply(info_hash: InfoHash, counts: Counts) -> bytes:
    """Return the reply to an announce."""
    return b'{"action":"announce","info_hash":%b,"interval":%b,"complete":%d,"incomplete":%d}' % (
        _quoted(info_hash), _INTERVAL, counts.complete, counts.incomplete,
    )  # fmt: skip


def offer_to(info_hash: InfoHash, from_peer: PeerId, offer: Offer) -> bytes:
    """Return the message that hands an offer to the peer it was given to."""
    head = _from(info_hash, from_peer)
    return b'%b%b,"offer":%b}' % (head, _string(offer.offer_id), offer.offer)


def answer_to(answer: Answer) -> bytes:
    """Return the message that hands an answer to the peer that offered."""
    head = _from(answer.info_hash, answer.peer_id)
    return b'%b%b,"answer":%b}' % (head, _string(answer.offer_id), answer.answer)


@lru_cache(maxsize=1024)
def _from(info_hash: InfoHash, peer_id: PeerId) -> bytes:
    # The same for all offers of an announce, and for the answers of a peer that is asked a lot.
    return b'{"action":"announce","info_hash":%b,"peer_id":%b,"offer_id":' % (
        _quoted(info_hash), _quoted(peer_id),
    )  # fmt: skip


def scrape_reply(counts: dict[InfoHash, Counts]) -> bytes:
    """Return the reply to a scrape."""
    files = {
        text_of(info_hash): {
            "complete": of.complete,
            "incomplete": of.incomplete,
            "downloaded": of.downloaded,
        }
        for info_hash, of in counts.items()
    }
    flags = {"min_request_interval": TRACKER_ANNOUNCE_INTERVAL_S}
    return encode({"action": "scrape", "files": files, "flags": flags})


def failure(error: AnnounceError) -> bytes:
    """Return the message that tells a client what was wrong."""
    told: dict[str, Any] = {"action": error.action, "failure reason": str(error)}
    if error.info_hash is not None:
        told["info_hash"] = error.info_hash
    return _dump(told)


def _quoted(name: bytes) -> bytes:
    return encode(name.decode("latin-1"))


def _string(text: str) -> bytes:
    try:
        return encode(text)
    except UnicodeEncodeError:
        return _dump(text)


def _dump(value: object) -> bytes:
    # Escaped to ASCII: a lone surrogate in somebody's SDP must not break the sending of it.
    return json.dumps(value, separators=(",", ":")).encode()
