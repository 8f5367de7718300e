"""Filling a run of blocks of a download from the origin: every block verified, then written."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass

from dreamer.daemon.origin.encoding import decode_block, probably_encoded
from dreamer.daemon.origin.faults import OriginMissingError, OriginRangeError
from dreamer.daemon.origin.origin import Origin
from dreamer.daemon.store.download import Download
from dreamer.protocol.content.manifest import FileEntry
from dreamer.protocol.errors import RemoteProtocolError

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
    saved: Callable[[int], None] = lambda size_bytes: None,
) -> None:
    """Fetch consecutive blocks, one ranged GET for each file they touch.

    ``verified`` is told each block that is on disk, ``rejected`` each whose bytes were wrong and
    of which nothing was kept, ``arrived`` the size of each piece that comes in (as it comes over
    the wire), ``saved`` by how much blocks kept as zstd are larger than that, ``absent`` all
    blocks of a file that isn't there and those behind the end of one that is too short; with None
    such a file is an error as any other.

    Raises:
        OriginError: the origin failed; blocks told as verified are good.
        LocalError: the disk failed.
        StoppedError: ``stop`` was set.
    """
    layout = download.manifest.layout
    told = _Told(download, verified, rejected, arrived, saved)
    for run in layout.runs(blocks):
        # One file that the origin has lost must not cost the rest of the bucket.
        try:
            _fetch_run(origin, run, stop, told)
        except (OriginMissingError, OriginRangeError) as error:
            if absent is None:
                raise
            whole_file = isinstance(error, OriginMissingError)
            lost = layout.blocks_of_file(layout.file_of(run.start)) if whole_file else run
            absent(lost, str(error))


@dataclass(frozen=True)
class _Told:
    """Where blocks go, and who hears of it."""

    download: Download
    verified: OnBlock
    rejected: OnBlock
    arrived: Callable[[int], None]
    saved: Callable[[int], None]

    def keep(self, block: int, data: bytes) -> None:
        # Verified before written: the partial file never holds a bad block.
        if self.download.outboard.matches(block, data):
            self.download.write(block, data)
            self.verified(block)
        else:
            # The rest of the run may be good; whether to go on is the planner's choice.
            self.rejected(block)


def _fetch_run(origin: Origin, run: range, stop: threading.Event, told: _Told) -> None:
    """Fetch a run of blocks of one file, in whichever form the origin has it."""
    manifest = told.download.manifest
    entry = manifest.files[manifest.layout.file_of(run.start)]
    encoded = origin.forms.known(entry.digest)
    if encoded is None:
        encoded = probably_encoded(entry.path, entry.size_bytes)
    ways = (_fetch_encoded, _fetch_plain) if encoded else (_fetch_plain, _fetch_encoded)
    try:
        ways[0](origin, entry, run, stop, told)
        return
    except OriginMissingError as error:
        origin.forms.forget(entry.digest)
        missing = error
    try:
        ways[1](origin, entry, run, stop, told)
    except OriginMissingError as error:
        # What a person knows of is the file itself.
        raise (error if ways[1] is _fetch_plain else missing) from None


def _fetch_plain(
    origin: Origin, entry: FileEntry, run: range, stop: threading.Event, told: _Told
) -> None:
    layout = told.download.manifest.layout
    first, last = layout.span(run[0]), layout.span(run[-1])
    length = last.offset + last.length - first.offset
    block = run.start
    # Pieces of a quick origin are whole blocks; else at most a block and a piece are held.
    held = bytearray()
    with closing(origin.read(entry.digest, first.offset, length, stop)) as pieces:
        for piece in pieces:
            told.arrived(len(piece))
            size = layout.block_size(block)
            if not held and len(piece) == size:
                told.keep(block, piece)
                block += 1
                continue
            held += piece
            while block < run.stop and len(held) >= layout.block_size(block):
                size = layout.block_size(block)
                data = bytes(held[:size])
                del held[:size]
                told.keep(block, data)
                block += 1
    origin.forms.note_plain(entry.digest)


def _fetch_encoded(
    origin: Origin, entry: FileEntry, run: range, stop: threading.Event, told: _Told
) -> None:
    layout = told.download.manifest.layout
    table = origin.forms.table(entry, stop, told.arrived)
    before = layout.blocks_of_file(layout.file_of(run.start)).start
    start, _ = table.frame(run[0] - before)
    end = sum(table.frame(run[-1] - before))
    block = run.start
    # At most a frame and a piece; a frame is bounded by what its table may say.
    held = bytearray()
    with closing(origin.read_encoded(entry.digest, start, end - start, stop)) as pieces:
        for piece in pieces:
            told.arrived(len(piece))
            held += piece
            while block < run.stop and len(held) >= (size := table.frame(block - before)[1]):
                frame = bytes(held[:size])
                del held[:size]
                _keep_frame(told, block, frame, layout.block_size(block))
                block += 1


def _keep_frame(told: _Told, block: int, frame: bytes, size_bytes: int) -> None:
    try:
        data = decode_block(frame, size_bytes)
    except RemoteProtocolError:
        told.rejected(block)
        return
    told.saved(size_bytes - len(frame))
    told.keep(block, data)
