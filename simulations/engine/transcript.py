"""Numbers that stand for what planners hear and say, for the trace."""

from __future__ import annotations

from collections.abc import Callable

from dreamer.protocol.swarm.vocabulary import (
    Blame,
    BlockRejected,
    BlocksFound,
    BlockVerified,
    BytesArrived,
    Cancel,
    Command,
    Complete,
    CrowdSeen,
    DiscoveryEnded,
    Drop,
    Event,
    Fetch,
    FileFinished,
    FinishFile,
    GiveUp,
    RequestRefused,
    Share,
    SourceGained,
    SourceJoined,
    SourceLacks,
    SourceLost,
    SourceMoved,
    Tick,
)

# In a fixed order: these numbers are part of what a run's hash is made of.
_KINDS: dict[type, int] = {
    kind: number
    for number, kind in enumerate(
        (
            *(SourceJoined, SourceGained, SourceLacks, SourceMoved, CrowdSeen, SourceLost),
            *(BytesArrived, BlockVerified, BlocksFound, BlockRejected, RequestRefused),
            *(DiscoveryEnded, FileFinished, Tick),
            *(Fetch, Cancel, Blame, Drop, Share, FinishFile, Complete, GiveUp),
        ),
        start=1,
    )
}


def _of_set(blocks: int) -> tuple[int, int]:
    return blocks.bit_count(), blocks.bit_length()


def _of_fetch(fetch: Fetch) -> tuple[int, int]:
    return fetch.request, fetch.first << 16 | min(fetch.count, 0xFFFF)


def _of_verdict(verdict: BlockVerified | BlockRejected) -> tuple[int, int]:
    return verdict.request, verdict.block


def _of_file(file: FileFinished | FinishFile) -> tuple[int, int]:
    return file.file_index, 0


# By type: what is compared with one class after the other costs a large run some percent.
_NUMBERS: dict[type, Callable[..., tuple[int, int]]] = {
    SourceGained: lambda event: _of_set(event.blocks),
    SourceJoined: lambda event: _of_set(event.blocks),
    Share: lambda command: _of_set(command.blocks),
    Fetch: _of_fetch,
    BlockVerified: _of_verdict,
    BlockRejected: _of_verdict,
    Cancel: lambda command: (command.request, -1 if command.block is None else command.block),
    RequestRefused: lambda event: (event.request, int(event.busy)),
    BytesArrived: lambda event: (event.size_bytes, 0),
    FileFinished: _of_file,
    FinishFile: _of_file,
}


def _of_others(what: Event | Command) -> tuple[int, int]:
    return 0, 0


def kind_of(what: Event | Command) -> int:
    """Return the number of a kind of event or command."""
    return _KINDS[type(what)]


def numbers_of(what: Event | Command) -> tuple[int, int]:
    """Return two numbers that tell apart what is of the same kind."""
    return _NUMBERS.get(type(what), _of_others)(what)
