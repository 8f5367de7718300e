"""Filling a run of blocks of a download from the origin: every block verified, then written."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing

from dreamer.daemon.origin.faults import OriginMissingError, OriginRangeError
from dreamer.daemon.origin.origin import Origin
from dreamer.daemon.store.download import Download

OnBlock = Callable[[int], None]
"""Told the number of a block, in the thread that fetches."""
OnAbsent = Callable[[range, str], None]
"""Told blocks that the origin does not have, and what it says, in the thread that fetches."""


def fetch_blocks(
    origin: Origin,
    download: Download,
    blocks: range,
    stop: threading.Event,
    verified: OnBlock,
    rejected: OnBlock,
    arrived: Callable[[int], None] = lambda size_bytes: None,
    absent: OnAbsent | None = None,
) -> None:
    """Fetch consecutive blocks, one ranged GET for each file they touch.

    ``verified`` is told each block that is on disk, ``rejected`` each whose bytes were wrong and
    of which nothing was kept, ``arrived`` the size of each piece that comes in, ``absent`` all
    blocks of a file that isn't there and those behind the end of one that is too short; with None
    such a file is an error as any other.

    Raises:
        OriginError: the origin failed; blocks told as verified are good.
        LocalError: the disk failed.
        StoppedError: ``stop`` was set.
    """
    layout = download.manifest.layout
    for run in layout.runs(blocks):
        # One file that the origin has lost must not cost the rest of the bucket.
        try:
            _fetch_run(origin, download, run, stop, verified, rejected, arrived)
        except (OriginMissingError, OriginRangeError) as error:
            if absent is None:
                raise
            whole_file = isinstance(error, OriginMissingError)
            lost = layout.blocks_of_file(layout.file_of(run.start)) if whole_file else run
            absent(lost, str(error))


def _fetch_run(
    origin: Origin,
    download: Download,
    run: range,
    stop: threading.Event,
    verified: OnBlock,
    rejected: OnBlock,
    arrived: Callable[[int], None],
) -> None:
    layout = download.manifest.layout
    first, last = layout.span(run[0]), layout.span(run[-1])
    digest = download.manifest.files[first.file_index].digest
    length = last.offset + last.length - first.offset
    block = run.start
    # Pieces of a quick origin are whole blocks; else at most a block and a piece are held.
    held = bytearray()
    with closing(origin.read(digest, first.offset, length, stop)) as pieces:
        for piece in pieces:
            arrived(len(piece))
            size = layout.block_size(block)
            if not held and len(piece) == size:
                _keep(download, block, piece, verified, rejected)
                block += 1
                continue
            held += piece
            while block < run.stop and len(held) >= layout.block_size(block):
                size = layout.block_size(block)
                data = bytes(held[:size])
                del held[:size]
                _keep(download, block, data, verified, rejected)
                block += 1


def _keep(
    download: Download, block: int, data: bytes, verified: OnBlock, rejected: OnBlock
) -> None:
    # Verified before written: the partial file never holds a bad block.
    if download.outboard.matches(block, data):
        download.write(block, data)
        verified(block)
    else:
        # The rest of the run may be good; whether to go on is the planner's choice.
        rejected(block)
