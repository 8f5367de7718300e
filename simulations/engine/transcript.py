"""Numbers that stand for what planners hear and say, for the trace."""

from __future__ import annotations

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


def kind_of(what: Event | Command) -> int:
    """Return the number of a kind of event or command."""
    return _KINDS[type(what)]


def numbers_of(what: Event | Command) -> tuple[int, int]:
    """Return two numbers that tell apart what is of the same kind."""
    if isinstance(what, SourceGained):
        # By far the most frequent: not to be compared with all the others first.
        return what.blocks.bit_count(), what.blocks.bit_length()
    match what:
        case Fetch(_, request, first, count):
            return request, first << 16 | min(count, 0xFFFF)
        case BlockVerified(_, request, block) | BlockRejected(_, request, block):
            return request, block
        case Cancel(_, request, block):
            return request, -1 if block is None else block
        case SourceJoined(_, _, blocks) | Share(blocks):
            return blocks.bit_count(), blocks.bit_length()
        case RequestRefused(_, request, busy):
            return request, int(busy)
        case BytesArrived(_, size):
            return size, 0
        case FileFinished(index) | FinishFile(index):
            return index, 0
    return 0, 0
