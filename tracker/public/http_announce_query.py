"""The query of an HTTP announce or scrape (BEP 3, BEP 48): bytes to values, or a reason why not.

Info hashes and peer ids are 20 raw bytes, each percent-encoded where it must be. The query is
taken apart by hand, for whatever decodes it as text would have to guess an encoding. Clients differ
in what they leave out or add, so only what is needed to answer is insisted on.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NewType
from urllib.parse import unquote_to_bytes

from dreamer.protocol.errors import RemoteProtocolError
from dreamer.protocol.ids import InfoHash
from dreamer.protocol.tracker_limits import (
    TRACKER_HTTP_KEY_MAX_BYTES,
    TRACKER_HTTP_MAX_NUMWANT,
    TRACKER_HTTP_NUMWANT,
    TRACKER_SCRAPE_MAX_SWARMS,
)
from dreamer.tracker.public.wire import NAME_BYTES, Event, PeerId

Port = NewType("Port", int)
"""A TCP port that can be dialled."""

_PORT_MAX = 65_535
# Longer ones are no numbers of bytes, and would take long to convert.
_NUMBER_MAX_DIGITS = 20
_EVENTS = {each.value.encode(): each for each in Event}


class QueryError(RemoteProtocolError):
    """A query that can't be answered; its text goes to the client as the ``failure reason``."""


@dataclass(frozen=True, slots=True)
class TcpAnnounce:
    """A client's presence in a swarm. ``left`` is in bytes; None when the client doesn't know.

    ``key`` is a word that only this client and the tracker know; empty when it sends none.
    """

    info_hash: InfoHash
    peer_id: PeerId
    port: Port
    event: Event
    left: int | None
    numwant: int
    key: bytes


_Fields = dict[bytes, list[bytes]]


def parse_announce(query: bytes) -> TcpAnnounce:
    """Return what an announce says; where a client wants to be reached is not for it to say.

    ``ip``, ``ipv4`` and ``ipv6`` are passed over: whoever could name an address could have a whole
    swarm dial somebody else's.

    Raises:
        QueryError: the info hash, peer id or port is missing or can't be one.
    """
    fields = _fields(query)
    event = _EVENTS.get(_first(fields, b"event"), Event.NONE)
    return TcpAnnounce(
        info_hash=InfoHash(_name(fields, b"info_hash")),
        peer_id=PeerId(_name(fields, b"peer_id")),
        port=_port(fields),
        event=event,
        left=_number(_first(fields, b"left")),
        numwant=0 if event is Event.STOPPED else _numwant(fields),
        key=_first(fields, b"key")[:TRACKER_HTTP_KEY_MAX_BYTES],
    )


def parse_scrape(query: bytes) -> tuple[InfoHash, ...]:
    """Return the info hashes that a scrape asks for, each once.

    Raises:
        QueryError: none is given, or one can't be an info hash.
    """
    asked = dict.fromkeys(_fields(query).get(b"info_hash", ()))
    if not asked:
        # Every swarm at once would be a large answer to a small question.
        raise QueryError("name the swarms to scrape: ?info_hash=...")
    if any(len(each) != NAME_BYTES for each in asked):
        raise QueryError(f"info_hash must be {NAME_BYTES} bytes, percent-encoded")
    return tuple(InfoHash(each) for each in asked)[:TRACKER_SCRAPE_MAX_SWARMS]


def _fields(query: bytes) -> _Fields:
    fields: _Fields = {}
    for pair in query.split(b"&"):
        name, _, value = pair.partition(b"=")
        fields.setdefault(_decoded(name), []).append(_decoded(value))
    return fields


def _decoded(value: bytes) -> bytes:
    # Some write a space as forms do. A plus that is meant comes as %2B from all known clients.
    return unquote_to_bytes(value.replace(b"+", b" "))


def _first(fields: _Fields, name: bytes) -> bytes:
    return fields.get(name, (b"",))[0]


def _name(fields: _Fields, name: bytes) -> bytes:
    found = fields.get(name, ())
    if len(found) != 1 or len(found[0]) != NAME_BYTES:
        raise QueryError(f"{name.decode()} must be given once: {NAME_BYTES} bytes, percent-encoded")
    return found[0]


def _port(fields: _Fields) -> Port:
    port = _number(_first(fields, b"port"))
    # Clients that can't be dialled say 0 or 1; neither is of use to anybody.
    if port is None or not 1 < port <= _PORT_MAX:
        raise QueryError("port must be the TCP port that you listen on, 2 to 65535")
    return Port(port)


def _numwant(fields: _Fields) -> int:
    wanted = _number(_first(fields, b"numwant"))
    return TRACKER_HTTP_NUMWANT if wanted is None else min(wanted, TRACKER_HTTP_MAX_NUMWANT)


def _number(text: bytes) -> int | None:
    # Of bytes, isdigit is about ASCII alone. -1 is how some say that they don't know.
    return int(text) if text.isdigit() and len(text) <= _NUMBER_MAX_DIGITS else None
