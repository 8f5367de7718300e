"""What a node moved, what that cost, and what it would have cost without cache and peers.

A ledger is a list of rows: on this day, in this room, of this model, so many bytes or requests of
one *entry*. Pure sums over rows give a month's usage; with prices they give four bills:

- **paid**: what was moved. Bytes out of the origin, requests to it, bytes through this node's own
  TURN allocations, and bytes from peers, which are free unless somebody's network charges for them;
- **without peers**: what peers brought comes out of the origin instead, and nothing is relayed;
- **without the cache**: what the store itself had comes out of the origin as well, peers help on;
- **without both**: every *use* takes the whole model out of the origin.

A use is one pull that ended with the model whole on this machine, whoever asked for it (a person,
a program, a preload), and whether or not a byte was moved. Two pulls that share one download are
two uses. Opening a model's files is none: nobody but the kernel sees that. A pull that ended early
is none either, though its bytes are paid for: a month of broken pulls can save less than nothing.

GETs that did not happen are counted as clients of S3 make them by default, one for each 8 MiB
(``multipart_chunksize`` of boto3's TransferConfig). GB are 10**9 bytes, as bills have them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from enum import StrEnum

from dreamer.protocol.errors import InputError
from dreamer.protocol.ids import ManifestId, RoomId
from dreamer.protocol.limits import MIB

GB = 10**9

BASELINE_PART_BYTES = 8 * MIB
"""What one GET brings to whoever reads S3 without Dreamer."""


class What(StrEnum):
    """What an amount counts. Bytes are payload, but ``PAID``: datagrams as TURN bills them."""

    DOWN = "down"
    UP = "up"
    PAID = "paid"
    """Through this node's own TURN allocations, both ways: a relayed byte is paid for by the node
    whose server relays it, once, so the sum over all nodes counts none twice."""
    GETS = "gets"
    PUTS = "puts"
    LISTS = "lists"
    WANTED = "wanted"
    USES = "uses"


CACHE = "cache"
ORIGIN = "origin"
RELAY = "relay"
PEER_LANES = ("direct", "webrtc", RELAY, "torrent")
LANES = (CACHE, *PEER_LANES, ORIGIN)
ALL = "all"
"""In place of a lane, of what no lane is to be named for."""


@dataclass(frozen=True, order=True)
class Entry:
    """One kind of amount: ``origin-down``, ``direct-up``, ``origin-gets``, ``all-uses``."""

    lane: str
    what: What

    def __str__(self) -> str:
        return f"{self.lane}-{self.what}"


ENTRIES = (
    Entry(CACHE, What.DOWN),
    *(Entry(lane, what) for lane in (*PEER_LANES, ORIGIN) for what in (What.DOWN, What.UP)),
    Entry(RELAY, What.PAID),
    *(Entry(ORIGIN, what) for what in (What.GETS, What.PUTS, What.LISTS)),
    Entry(ALL, What.WANTED),
    Entry(ALL, What.USES),
)
"""All there are; whatever else a newer node reports is left alone."""

_BY_NAME = {str(entry): entry for entry in ENTRIES}

WANTED = Entry(ALL, What.WANTED)
USES = Entry(ALL, What.USES)

Usage = Mapping[Entry, int]
"""Amounts added up over days, and over whatever else; what is not there is 0."""


@dataclass(frozen=True)
class Row:
    """One line of a ledger. ``day``: ``YYYY-MM-DD``, UTC; ``model``: None where it is of none."""

    day: str
    room: RoomId
    model: ManifestId | None
    entry: Entry
    amount: int


def usage_of(rows: Iterable[Row]) -> dict[Entry, int]:
    """Add rows up."""
    total: dict[Entry, int] = {}
    for row in rows:
        total[row.entry] = total.get(row.entry, 0) + row.amount
    return total


def added(*usages: Usage) -> dict[Entry, int]:
    """Add usages up, such as those of several nodes."""
    total: dict[Entry, int] = {}
    for usage in usages:
        for entry, amount in usage.items():
            total[entry] = total.get(entry, 0) + amount
    return total


def to_words(usage: Usage) -> dict[str, int]:
    """Return a usage as names and numbers, for documents; zeros are left out."""
    return {str(entry): usage[entry] for entry in sorted(usage) if usage[entry]}


def from_words(words: Mapping[str, int]) -> dict[Entry, int]:
    """Return the usage in a document; what this version does not know is left out."""
    return {_BY_NAME[name]: amount for name, amount in words.items() if name in _BY_NAME}


def entry_named(name: str) -> Entry | None:
    """Return the entry of a name such as ``origin-down``; None if there is none."""
    return _BY_NAME.get(name)


@dataclass(frozen=True)
class Prices:
    """In one currency. ``_gb``: for 10**9 bytes; ``_1000``: for a thousand requests.

    The defaults are the list prices that the cost study uses (``docs/costs.md``).
    """

    egress_gb: float = 0.09
    get_1000: float = 0.0004
    put_1000: float = 0.005
    list_1000: float = 0.005
    turn_gb: float = 0.05
    peer_gb: float = 0.0
    storage_gb_month: float = 0.023


@dataclass(frozen=True)
class Bill:
    """What a usage costs, by what it is paid for. Storage is not in it: it is kept in any case."""

    egress: float = 0.0
    requests: float = 0.0
    turn: float = 0.0
    peers: float = 0.0

    @property
    def total(self) -> float:
        """All of it."""
        return self.egress + self.requests + self.turn + self.peers

    def __add__(self, other: Bill) -> Bill:
        return Bill(*(getattr(self, one.name) + getattr(other, one.name) for one in fields(self)))


@dataclass(frozen=True)
class Costs:
    """A usage's four bills; see the module's text for what each means."""

    paid: Bill
    without_peers: Bill
    without_cache: Bill
    without_both: Bill

    @property
    def saved(self) -> float:
        """What cache and peers together saved; less than nothing if pulls failed for the most."""
        return self.without_both.total - self.paid.total


def costs_of(usage: Usage, prices: Prices) -> Costs:
    """Return what a usage cost, and would have."""
    from_origin = usage.get(Entry(ORIGIN, What.DOWN), 0)
    from_peers = peer_bytes(usage)
    cached = usage.get(Entry(CACHE, What.DOWN), 0)
    wanted = usage.get(WANTED, 0)
    requests = _requests(usage, prices)
    writes = _requests({e: n for e, n in usage.items() if e.what is not What.GETS}, prices)
    turn = usage.get(Entry(RELAY, What.PAID), 0) / GB * prices.turn_gb
    peers = from_peers / GB * prices.peer_gb

    def egress(size_bytes: int) -> float:
        return size_bytes / GB * prices.egress_gb

    def gets(size_bytes: int) -> float:
        return -(-size_bytes // BASELINE_PART_BYTES) / 1000 * prices.get_1000

    return Costs(
        paid=Bill(egress(from_origin), requests, turn, peers),
        without_peers=Bill(egress(from_origin + from_peers), requests + gets(from_peers)),
        without_cache=Bill(egress(from_origin + cached), requests + gets(cached), turn, peers),
        # Models are put into the origin in any case.
        without_both=Bill(egress(wanted), writes + gets(wanted)),
    )


def peer_bytes(usage: Usage) -> int:
    """Return what peers brought, over all lanes."""
    return sum(usage.get(Entry(lane, What.DOWN), 0) for lane in PEER_LANES)


def _requests(usage: Usage, prices: Prices) -> float:
    of = {What.GETS: prices.get_1000, What.PUTS: prices.put_1000, What.LISTS: prices.list_1000}
    return sum(
        usage.get(Entry(ORIGIN, what), 0) / 1000 * price_1000 for what, price_1000 in of.items()
    )


def storage_per_month(size_bytes: int, prices: Prices) -> float:
    """Return what keeping so much in the origin costs a month."""
    return size_bytes / GB * prices.storage_gb_month


def check_month(text: str) -> str:
    """Return a month as it was typed.

    Raises:
        InputError: it is not ``YYYY-MM``.
    """
    year, dash, month = text.partition("-")
    good = len(year) == 4 and len(month) == 2 and dash and (year + month).isascii()
    if not good or not (year + month).isdecimal() or not 1 <= int(month) <= 12:
        raise InputError(f"a month is written YYYY-MM, such as 2026-11, not {text!r:.40}")
    return text
