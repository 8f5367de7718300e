"""A public swarm as one of a pull's sources: requests become pieces that libtorrent shall fetch.

libtorrent writes into the pull's own partial files, before it knows whether what it writes is
right. So a piece that it may write is *open*, and until it is closed, nothing in it counts: a block
that another lane brings meanwhile is held back, libtorrent is made to stop, and the block is read
again. That is rare: the planner asks two lanes for the same block only at a pull's end, or when one
of them hangs.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import reduce
from operator import or_
from pathlib import Path

from dreamer.daemon.store.download import Download
from dreamer.daemon.torrent.blocks import right_on_disk
from dreamer.daemon.torrent.client import Torrents
from dreamer.daemon.torrent.links import link_partials
from dreamer.daemon.torrent.vocabulary import (
    AddTorrent,
    PiecesReleased,
    PieceTaken,
    ReleasePieces,
    RemoveTorrent,
    SwarmSeen,
    TorrentEvent,
    TorrentFailed,
    TorrentRemoved,
    WantPieces,
)
from dreamer.daemon.transport.vocabulary import VerifiedSpan
from dreamer.protocol.content.torrent_layout import TorrentLayout
from dreamer.protocol.limits import TORRENT_REMOVE_TIMEOUT_S
from dreamer.protocol.swarm import bitfield
from dreamer.protocol.swarm.vocabulary import (
    BlockRejected,
    BlockVerified,
    BytesArrived,
    Cancel,
    Event,
    Fetch,
    Lane,
    RequestRefused,
    SourceId,
    SourceJoined,
    SourceLost,
)

log = logging.getLogger(__name__)

TORRENT = SourceId("torrent")

UNASKED = 0
"""The request of a block that was not asked for; no request has this number."""


@dataclass(frozen=True)
class PublicSwarm:
    """A model's torrent, as those who hold it made it; ``folder`` is for nobody else."""

    layout: TorrentLayout
    metadata: bytes
    trackers: list[str]
    folder: Path


class TorrentLane:
    """Carries out the planner's requests to a swarm; ``feed`` takes events on the loop.

    ``present`` returns the set of blocks that are verified by now; ``gave`` is told how many bytes
    the swarm was given meanwhile.
    """

    def __init__(
        self,
        torrents: Torrents,
        swarm: PublicSwarm,
        download: Download,
        present: Callable[[], int],
        feed: Callable[[Event], None],
        gave: Callable[[int], None] = lambda size_bytes: None,
    ) -> None:
        self._gave = gave
        self._torrents = torrents
        self._swarm = swarm
        self._layout = swarm.layout
        self._download = download
        self._present = present
        self._feed = feed
        self._loop = asyncio.get_running_loop()
        self._number = torrents.new_number()
        self._open: dict[int, None] = {}
        self._releasing: dict[int, None] = {}
        self._asked: dict[int, int] = {}
        self._held: dict[int, list[BlockVerified]] = {}
        self._seen = b""
        self._joined = False
        self._answered = False
        self._gone = asyncio.Event()
        self._closing = False
        self._started = False
        self._own = sum(bitfield.span(blocks.start, len(blocks)) for blocks in self._own_files())

    def _own_files(self) -> Iterable[range]:
        # Of files with the same bytes only the first is fetched: they lie at one place.
        layout, seen = self._download.manifest.layout, dict[bytes, None]()
        for index, entry in enumerate(self._download.manifest.files):
            if entry.digest not in seen:
                seen[entry.digest] = None
                yield layout.blocks_of_file(index)

    @property
    def settled(self) -> bool:
        """Whether somebody was found in the swarm, or never will be."""
        return self._answered or self._gone.is_set()

    async def start(self) -> None:
        """Join the swarm.

        Raises:
            OSError: the partial files can't be shared with libtorrent on this file system.
        """
        if self._gone.is_set():
            # The pull ended meanwhile: links made now would hold its bytes until the next start.
            return
        paths = await asyncio.to_thread(
            link_partials, self._layout, self._download, self._swarm.folder
        )
        if self._closing:
            return
        self._started = True
        have = self._layout.whole_pieces(self._present())
        self._torrents.add(
            AddTorrent(
                self._number,
                self._swarm.metadata,
                self._swarm.trackers,
                str(self._swarm.folder),
                paths,
                self._layout.piece_count,
                bitfield.encode(have, self._layout.piece_count),
            ),
            self._event,
        )
        self._show_interest()

    def _show_interest(self) -> None:
        """Want one piece at least: seeds part at once from whoever wants nothing of them."""
        missing = self._fetchable()
        if missing and not self._open and not self._closing:
            self._want([self._layout.piece_of(missing.bit_length() - 1)])

    # What the planner wants

    def fetch(self, command: Fetch) -> None:
        """Begin a request."""
        blocks = bitfield.span(command.first, command.count)
        if self._closing or self._gone.is_set() or blocks & ~(self._fetchable() | self._opened()):
            self._later(RequestRefused(TORRENT, command.request, False))
            return
        pieces = self._pieces(blocks)
        if any(piece in self._releasing for piece in pieces):
            self._later(RequestRefused(TORRENT, command.request, True))
            return
        self._asked[command.request] = blocks
        self._want([piece for piece in pieces if piece not in self._open])

    def cancel(self, command: Cancel) -> None:
        """Fetch no more of a request than has been fetched."""
        left = self._asked.pop(command.request, 0)
        if command.block is not None:
            left &= ~(1 << command.block)
            if left:
                self._asked[command.request] = left
        wanted = self._pieces(reduce(or_, self._asked.values(), 0))
        self._release(piece for piece in self._open if piece not in wanted)

    def close(self) -> None:
        """Leave the swarm; see ``closed``."""
        if not self._closing:
            self._closing = True
            if self._started:
                self._torrents.send(RemoveTorrent(self._number))
            else:
                self._gone.set()

    async def closed(self) -> None:
        """Return once nothing of this lane touches the partial files any more."""
        self.close()
        try:
            async with asyncio.timeout(TORRENT_REMOVE_TIMEOUT_S):
                await self._gone.wait()
        except TimeoutError:
            log.error("libtorrent does not let go of a pull's files: ending its process")
            self._torrents.end_process()
            await self._gone.wait()
        await asyncio.to_thread(shutil.rmtree, self._swarm.folder, ignore_errors=True)

    def holds_back(self, event: Event) -> bool:
        """Return whether an event of another lane is kept until libtorrent has let go of a piece.

        It is fed again, or its block is asked for again.
        """
        if not isinstance(event, BlockVerified) or event.source == TORRENT or self._gone.is_set():
            return False
        # A file that is there twice lies at one place, whichever of its blocks was asked for.
        for block in (event.block, *self._download.same(event.block)):
            piece = self._layout.piece_of(block)
            if piece in self._open:
                self._held.setdefault(piece, []).append(event)
                self._release([piece])
                return True
        return False

    def _want(self, pieces: list[int]) -> None:
        self._open.update(dict.fromkeys(pieces))
        wanted = [(piece, self._spans(piece)) for piece in pieces]
        if wanted:
            self._torrents.send(WantPieces(self._number, wanted))

    def _release(self, pieces: Iterable[int]) -> None:
        news = [piece for piece in pieces if piece not in self._releasing]
        self._releasing.update(dict.fromkeys(news))
        if news and not self._closing:
            self._torrents.send(ReleasePieces(self._number, news))

    # What the torrent process reports

    def _event(self, event: TorrentEvent) -> None:
        match event:
            case PieceTaken(_, piece, good, bad):
                self._taken(piece, good, bad)
            case PiecesReleased(_, pieces, good):
                for piece in pieces:
                    self._settle(piece, good)
                if not self._joined:
                    self._show_interest()
            case SwarmSeen():
                self._look(event)
            case TorrentRemoved():
                self._let_go()
            case TorrentFailed(_, reason):
                self._failed(reason)

    def _taken(self, piece: int, good: list[int], bad: list[int]) -> None:
        if not self._joined:
            # Faster than the first report of who is there.
            self._joined = True
            blocks = self._layout.blocks_of(1 << piece)
            self._feed(SourceJoined(TORRENT, Lane.TORRENT, blocks))
        for block in good:
            self._feed(BlockVerified(TORRENT, self._request_of(block), block))
        self._settle(piece, good)
        if not self._answered:
            # The planner knows of this piece only: a seed that we want nothing of would hang up.
            self._show_interest()
        for block in bad:
            log.warning("the torrent brought block %d with other bytes than the model's", block)
            self._feed(BlockRejected(TORRENT, self._request_of(block), block))
        if bad:
            # Its own hashes say that these bytes are right: no piece of it can be relied on.
            self.close()

    def _settle(self, piece: int, good: list[int]) -> None:
        """Close a piece; what other lanes brought of it meanwhile counts if it is still there."""
        self._open.pop(piece, None)
        self._releasing.pop(piece, None)
        for held in self._held.pop(piece, []):
            at_place = (held.block, *self._download.same(held.block))
            right = any(block in good for block in at_place)
            again = RequestRefused(held.source, held.request, True)
            self._feed(held if right else again)

    def _look(self, seen: SwarmSeen) -> None:
        if seen.down_bytes:
            self._feed(BytesArrived(TORRENT, seen.down_bytes))
        if seen.up_bytes:
            self._gave(seen.up_bytes)
        if self._closing or seen.available == self._seen:
            return
        self._seen = seen.available
        pieces = bitfield.decode(seen.available, self._layout.piece_count)
        blocks = self._own & self._layout.blocks_of(pieces)
        if blocks:
            self._joined = self._answered = True
            self._feed(SourceJoined(TORRENT, Lane.TORRENT, blocks))
        elif self._joined:
            self._left()

    def _left(self) -> None:
        """Do without a swarm that nobody is in any more; whoever comes back is asked again."""
        self._joined = False
        self._asked.clear()
        self._feed(SourceLost(TORRENT))
        self._release(list(self._open))

    def _failed(self, reason: str) -> None:
        log.warning("the torrent of a model can't go on: %s", reason)
        self._asked.clear()
        self._feed(SourceLost(TORRENT))
        self._let_go()

    def _let_go(self) -> None:
        """Nothing writes any more: what others brought meanwhile is read here."""
        self._gone.set()
        self._open.clear()
        for piece in list(self._held):
            self._settle(piece, right_on_disk(self._spans(piece)))

    # Blocks and pieces

    def _fetchable(self) -> int:
        """Return the blocks of pieces of which nothing is here or being brought by others."""
        present = self._present()
        begun = self._layout.touched_pieces(present)
        return self._own & ~present & ~self._layout.blocks_of(begun)

    def _opened(self) -> int:
        return self._layout.blocks_of(sum(1 << piece for piece in self._open))

    def _pieces(self, blocks: int) -> dict[int, None]:
        return dict.fromkeys(self._layout.piece_of(block) for block in bitfield.members(blocks))

    def _spans(self, piece: int) -> list[VerifiedSpan]:
        spans = []
        for block in self._layout.blocks_of_piece(piece):
            place = self._download.target(block)
            digest = bytes(self._download.outboard.hash_of(block))
            spans.append((block, str(place.path), place.offset, place.length, digest))
        return spans

    def _request_of(self, block: int) -> int:
        for request, blocks in self._asked.items():
            if blocks >> block & 1:
                left = blocks & ~(1 << block)
                if left:
                    self._asked[request] = left
                else:
                    del self._asked[request]
                return request
        return UNASKED

    def _later(self, event: Event) -> None:
        # The planner may be in the middle of an event, and takes one at a time.
        self._loop.call_soon(self._feed, event)
