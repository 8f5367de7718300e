"""What the daemon and its torrent process say to each other.

A torrent is named by a number that the daemon chooses; pieces are numbered as in its metadata.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import get_args

from dreamer.daemon.child_messages import read
from dreamer.daemon.transport.vocabulary import VerifiedSpan

WantedPiece = tuple[int, list[VerifiedSpan]]
"""A piece, and its blocks: where each is written, and the BLAKE3 it must have."""


# To the torrent process


@dataclass(frozen=True)
class Configure:
    """The first command: how to meet others. ``listen`` is HOST:PORT, more of them by commas.

    ``local_peers`` lets trackers and peers on this machine and in private networks be spoken to
    where they would be taken for an attack. ``stun`` is HOST:PORT or empty.
    """

    listen: str
    user_agent: str
    local_peers: bool
    dht: bool
    stun: str


@dataclass(frozen=True)
class AddTorrent:
    """Take part in a swarm: share what is here, and fetch nothing unless ``WantPieces`` says so.

    ``paths`` are those of the files in the metadata's order, below ``folder`` or absolute, empty
    for padding. ``have`` is a bitfield of pieces, or empty for all of them: then files are only
    read, from their whole and verified originals.
    """

    torrent: int
    metadata: bytes
    trackers: list[str]
    folder: str
    paths: list[str]
    piece_count: int
    have: bytes


@dataclass(frozen=True)
class WantPieces:
    """Fetch these pieces; each is answered by ``PieceTaken``."""

    torrent: int
    pieces: list[WantedPiece]


@dataclass(frozen=True)
class ReleasePieces:
    """Write nothing more of these pieces: answered by ``PiecesReleased`` once that is certain."""

    torrent: int
    pieces: list[int]


@dataclass(frozen=True)
class RemoveTorrent:
    """Leave a swarm; answered by ``TorrentRemoved`` once no file of it is touched any more."""

    torrent: int


@dataclass(frozen=True)
class SetLimits:
    """Bytes per second up and down over all torrents; 0 is unlimited."""

    up_bytes_s: int
    down_bytes_s: int


@dataclass(frozen=True)
class AskSettings:
    """Answer with ``SettingsInForce``."""


# From the torrent process


@dataclass(frozen=True)
class Listening:
    """Peers are accepted on this port; 0 while none is open."""

    port: int


@dataclass(frozen=True)
class PieceTaken:
    """A piece is on disk. ``good`` are its blocks with the right hash, ``bad`` the others."""

    torrent: int
    piece: int
    good: list[int]
    bad: list[int]


@dataclass(frozen=True)
class PiecesReleased:
    """Nothing writes these pieces any more; ``good`` are their blocks with the right hash."""

    torrent: int
    pieces: list[int]
    good: list[int]


@dataclass(frozen=True)
class SwarmSeen:
    """Who is there: peers, the pieces that any of them has (a bitfield), payload bytes since."""

    torrent: int
    peers: int
    available: bytes
    down_bytes: int
    up_bytes: int


@dataclass(frozen=True)
class TorrentFailed:
    """A torrent can't go on; it has been removed, and nothing writes its files."""

    torrent: int
    reason: str


@dataclass(frozen=True)
class TorrentRemoved:
    """The answer to ``RemoveTorrent``."""

    torrent: int


@dataclass(frozen=True)
class SettingsInForce:
    """Every setting of libtorrent by name, as JSON text."""

    text: str


ToTorrent = (
    Configure | AddTorrent | WantPieces | ReleasePieces | RemoveTorrent | SetLimits | AskSettings
)
FromTorrent = (
    Listening
    | PieceTaken
    | PiecesReleased
    | SwarmSeen
    | TorrentFailed
    | TorrentRemoved
    | SettingsInForce
)
TorrentEvent = PieceTaken | PiecesReleased | SwarmSeen | TorrentFailed | TorrentRemoved
"""What is about one torrent."""

_COMMANDS: dict[str, type[ToTorrent]] = {cls.__name__: cls for cls in get_args(ToTorrent)}
_EVENTS: dict[str, type[FromTorrent]] = {cls.__name__: cls for cls in get_args(FromTorrent)}


async def read_command(reader: asyncio.StreamReader) -> ToTorrent | None:
    """Return the daemon's next command, or None when the daemon has gone."""
    return await read(reader, _COMMANDS)


async def read_event(reader: asyncio.StreamReader) -> FromTorrent | None:
    """Return the torrent process's next event, or None when the process has gone."""
    return await read(reader, _EVENTS)
