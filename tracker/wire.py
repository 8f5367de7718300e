"""The WebTorrent tracker protocol: JSON to values and back, permissive where clients differ.

Text or binary frames; info hashes and peer ids are strings of 20 characters, one code point per
byte. A failure must carry an ``action``, or stock clients drop the socket and back off for
minutes (seen in bittorrent-tracker 11.2 and libtorrent 2.1).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import Enum
from typing import Any, NewType

from dreamer.protocol.canonical import Json
from dreamer.protocol.errors import RemoteProtocolError
from dreamer.protocol.ids import InfoHash
from dreamer.protocol.limits import (
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


class AnnounceError(RemoteProtocolError):
    """A message that a client is told is wrong; ``action`` and ``info_hash`` go with the reply."""

    def __init__(self, reason: str, action: str = "announce", info_hash: str | None = None) -> None:
        super().__init__(reason)
        self.action = action
        self.info_hash = info_hash


@dataclass(frozen=True, slots=True)
class Offer:
    """A session description to pass on to one peer."""

    offer_id: str
    offer: Json


@dataclass(frozen=True, slots=True)
class Announce:
    """A client's presence in a swarm. ``left`` is in bytes; None when the client doesn't know."""

    info_hash: InfoHash
    peer_id: PeerId
    event: Event
    left: int | None
    offers: tuple[Offer, ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """A session description that answers an offer passed on before."""

    info_hash: InfoHash
    peer_id: PeerId
    to_peer_id: PeerId
    offer_id: str
    answer: Json


@dataclass(frozen=True, slots=True)
class Scrape:
    """A question for counts; None asks for every swarm."""

    info_hashes: tuple[InfoHash, ...] | None


@dataclass(frozen=True, slots=True)
class Counts:
    """What a scrape says of a swarm: seeders, leechers, and downloads completed."""

    complete: int
    incomplete: int
    downloaded: int


def parse(message: str | bytes) -> Announce | Answer | Scrape:
    """Return what a client said.

    Raises:
        AnnounceError: the message can't be used; the reply names the reason.
    """
    said = _object(message)
    action = said.get("action")
    if action == "scrape":
        return _scrape(said.get("info_hash"))
    if action != "announce":
        raise AnnounceError("unknown action: announce or scrape")
    info_hash = InfoHash(_name(said, "info_hash"))
    peer_id = PeerId(_name(said, "peer_id"))
    # Clients mark an answer by its presence alone; the action is the same.
    if isinstance(said.get("answer"), dict):
        return Answer(
            info_hash, peer_id, PeerId(_name(said, "to_peer_id")), _offer_id(said), said["answer"]
        )
    return Announce(info_hash, peer_id, _event(said), _left(said.get("left")), _offers(said))


def _object(message: str | bytes) -> Json:
    try:
        said = json.loads(message)
    except (ValueError, RecursionError) as error:
        raise AnnounceError("not JSON") from error
    if not isinstance(said, dict):
        raise AnnounceError("not a JSON object")
    return said


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


def _name(said: Json, field: str) -> bytes:
    name = _bytes(said.get(field))
    if name is None:
        raise AnnounceError(
            f"{field} must have 20 characters, one a byte", info_hash=_echo(said.get("info_hash"))
        )
    return name


def _echo(value: object) -> str | None:
    return value if isinstance(value, str) and len(value) <= 2 * NAME_BYTES else None


def _event(said: Json) -> Event:
    try:
        return Event(said.get("event") or "")
    except ValueError as error:
        raise AnnounceError("unknown event", info_hash=said["info_hash"]) from error


def _left(value: object) -> int | None:
    # Magnet links have no length yet: clients say null, Infinity or leave it out.
    if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1 << 63:
        return int(value)
    return None


def _offer_id(said: Json) -> str:
    offer_id = said.get("offer_id")
    if isinstance(offer_id, str) and 0 < len(offer_id) <= TRACKER_OFFER_ID_MAX_CHARS:
        return offer_id
    raise AnnounceError("offer_id must be a short string", info_hash=_echo(said.get("info_hash")))


def _offers(said: Json) -> tuple[Offer, ...]:
    offers, numwant = said.get("offers"), said.get("numwant")
    if not isinstance(offers, list):
        return ()
    most = TRACKER_MAX_OFFERS
    if isinstance(numwant, int) and numwant >= 0:
        most = min(most, numwant)
    # One malformed offer must not cost the client its announce.
    usable = [
        each for each in offers[:most] if isinstance(each, dict) and _is_sdp(each.get("offer"))
    ]
    return tuple(Offer(_offer_id(each), each["offer"]) for each in usable)


def _is_sdp(value: object) -> bool:
    return isinstance(value, dict) and isinstance(value.get("sdp"), str)


def text_of(name: bytes) -> str:
    """Return a 20-byte name as it stands in a message."""
    return name.decode("latin-1")


def reply(info_hash: InfoHash, counts: Counts) -> str:
    """Return the reply to an announce."""
    return _dump(
        {
            "action": "announce",
            "info_hash": text_of(info_hash),
            "interval": TRACKER_ANNOUNCE_INTERVAL_S,
            "complete": counts.complete,
            "incomplete": counts.incomplete,
        }
    )


def offer_to(info_hash: InfoHash, from_peer: PeerId, offer: Offer) -> str:
    """Return the message that hands an offer to the peer it was given to."""
    return _dump(
        {
            "action": "announce",
            "info_hash": text_of(info_hash),
            "peer_id": text_of(from_peer),
            "offer_id": offer.offer_id,
            "offer": offer.offer,
        }
    )


def answer_to(answer: Answer) -> str:
    """Return the message that hands an answer to the peer that offered."""
    return _dump(
        {
            "action": "announce",
            "info_hash": text_of(answer.info_hash),
            "peer_id": text_of(answer.peer_id),
            "offer_id": answer.offer_id,
            "answer": answer.answer,
        }
    )


def scrape_reply(counts: dict[InfoHash, Counts]) -> str:
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
    return _dump({"action": "scrape", "files": files, "flags": flags})


def failure(error: AnnounceError) -> str:
    """Return the message that tells a client what was wrong."""
    told: dict[str, Any] = {"action": error.action, "failure reason": str(error)}
    if error.info_hash is not None:
        told["info_hash"] = error.info_hash
    return _dump(told)


def _dump(value: Json) -> str:
    # Escaped to ASCII: a lone surrogate in somebody's SDP must not break the sending of it.
    return json.dumps(value, separators=(",", ":"))
