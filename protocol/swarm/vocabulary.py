"""The two vocabularies of a download: what can happen to it, and what it can ask for.

Blocks are numbered through the whole model, in the order of its files. Sets of blocks are
integers (``bitfield.py``). A request is named by its number; numbers are never used twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import NewType

SourceId = NewType("SourceId", str)
"""One way to get blocks: a peer's node id in hex, or ``origin``."""


class Lane(Enum):
    """A way to move ranges; the order is what it costs, cheapest first."""

    DIRECT = "direct"
    WEBRTC = "webrtc"
    TORRENT = "torrent"
    RELAY = "relay"
    ORIGIN = "origin"


# Events


@dataclass(frozen=True)
class SourceJoined:
    """A source can be asked; it holds ``blocks``.

    ``fetching``: it pulls the rest of the model itself. ``lan``: it is near, as ``SourceMoved``.
    """

    source: SourceId
    lane: Lane
    blocks: int
    fetching: bool = False
    lan: bool = False


@dataclass(frozen=True)
class SourceGained:
    """A source holds more blocks than it said."""

    source: SourceId
    blocks: int


@dataclass(frozen=True)
class SourceLacks:
    """A source turns out not to have these blocks; what it was asked of them will not come."""

    source: SourceId
    blocks: int


@dataclass(frozen=True)
class SourceMoved:
    """A source is reached over another lane now; what it was asked for will not come.

    ``usable`` is False while no lane to it may carry blocks. ``lan``: it is reached by an address
    of this site, for which limits of the rate may not count.
    """

    source: SourceId
    lane: Lane
    usable: bool
    lan: bool = False


@dataclass(frozen=True)
class CrowdSeen:
    """These hold the model or pull it, as a tracker says; ``sources`` replaces what it said.

    ``committee``: those of a large crowd that fetch for all what few have; None: everybody does.
    """

    sources: tuple[SourceId, ...]
    committee: tuple[SourceId, ...] | None = None


@dataclass(frozen=True)
class SourceLost:
    """A source can't be asked any more; what it was asked for will not come."""

    source: SourceId


@dataclass(frozen=True)
class BytesArrived:
    """Unverified bytes came in: proof of life, nothing else."""

    source: SourceId
    size_bytes: int


@dataclass(frozen=True)
class BlockVerified:
    """A block has the right hash and is on disk."""

    source: SourceId
    request: int
    block: int


@dataclass(frozen=True)
class BlocksFound:
    """Blocks are on disk without having been asked for: a copy of others that just came."""

    blocks: int


@dataclass(frozen=True)
class BlockRejected:
    """A source sent a block with the wrong hash; nothing of it was kept."""

    source: SourceId
    request: int
    block: int


@dataclass(frozen=True)
class RequestRefused:
    """A source will not serve (the rest of) a request. ``busy`` means: ask again later."""

    source: SourceId
    request: int
    busy: bool


@dataclass(frozen=True)
class DiscoveryEnded:
    """Every source that could be found at this time has joined or failed."""


@dataclass(frozen=True)
class FileFinished:
    """A whole file has the right hash and is in the store."""

    file_index: int


@dataclass(frozen=True)
class Tick:
    """Time has passed; sent when ``Download.next_wake`` says, or more often."""


Event = (
    SourceJoined
    | SourceGained
    | SourceLacks
    | SourceMoved
    | CrowdSeen
    | SourceLost
    | BytesArrived
    | BlockVerified
    | BlocksFound
    | BlockRejected
    | RequestRefused
    | DiscoveryEnded
    | FileFinished
    | Tick
)


# Commands


@dataclass(frozen=True)
class Fetch:
    """Ask a source for ``count`` blocks from ``first``."""

    source: SourceId
    request: int
    first: int
    count: int


@dataclass(frozen=True)
class Cancel:
    """A block of a request, or with None all the rest of it, is no longer wanted."""

    source: SourceId
    request: int
    block: int | None


@dataclass(frozen=True)
class Blame:
    """A source sent a bad block: drop it and remember."""

    source: SourceId
    block: int


@dataclass(frozen=True)
class Drop:
    """A source has stopped answering too often: drop it, without a ban."""

    source: SourceId


@dataclass(frozen=True)
class Share:
    """These blocks can now be offered to others."""

    blocks: int


@dataclass(frozen=True)
class FinishFile:
    """All blocks of a file are there: check the whole, move it into the store."""

    file_index: int


@dataclass(frozen=True)
class Complete:
    """Every file is finished."""


@dataclass(frozen=True)
class GiveUp:
    """Nothing more can be done now; ``reason`` is for a person. What is on disk stays."""

    reason: str


Command = Fetch | Cancel | Blame | Drop | Share | FinishFile | Complete | GiveUp
