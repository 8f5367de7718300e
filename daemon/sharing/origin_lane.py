"""The origin as one of a pull's sources: requests become ranged GETs in threads.

A request is cut into pieces, each a GET of its own, and so many run side by side as make it
faster (``protocol/width.py``). Connections are kept, so a small GET costs one round trip. The
threads fetch, verify and write; the loop hears of each block, and now and then that bytes came.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

from dreamer.daemon.origin.faults import OriginRefusedError
from dreamer.daemon.origin.fetch import OnAbsent, fetch_blocks
from dreamer.daemon.origin.origin import Origin
from dreamer.daemon.store import stopping
from dreamer.daemon.store.download import Download
from dreamer.daemon.tasks import TaskSet
from dreamer.protocol.errors import DreamerError, LocalError, StoppedError
from dreamer.protocol.limits import (
    ORIGIN_PARALLEL_MAX_REQUESTS,
    ORIGIN_PARALLEL_REQUESTS,
    ORIGIN_PIECE_MIN_BLOCKS,
    ORIGIN_TELL_INTERVAL_S,
)
from dreamer.protocol.swarm import bitfield
from dreamer.protocol.swarm.vocabulary import (
    BlockRejected,
    BlockVerified,
    BytesArrived,
    Cancel,
    Event,
    Fetch,
    RequestRefused,
    SourceId,
    SourceLacks,
    SourceLost,
)
from dreamer.protocol.width import Width

log = logging.getLogger(__name__)

ORIGIN = SourceId("origin")


class Piece:
    """A part of a request, got by one GET, which ``stop`` ends; ``wanted``: what is to come."""

    def __init__(self, request: int, blocks: range) -> None:
        self.request = request
        self.blocks = blocks
        self.stop = threading.Event()
        self.wanted = dict.fromkeys(blocks)
        self._cut = False

    def narrow(self) -> None:
        """Leave out what is not wanted any more at either end, before it begins."""
        self.blocks = range(min(self.wanted), max(self.wanted) + 1)

    def settle(self, block: int, *, cancelled: bool) -> None:
        """Note that a block has come, or is not wanted; a GET for nothing else is ended."""
        if block in self.wanted:
            del self.wanted[block]
            self._cut = self._cut or cancelled
            # One that brings all it was to bring ends by itself, and keeps its connection.
            if self._cut and not self.wanted:
                self.stop.set()


class OriginLane:
    """Carries out the planner's requests to the origin. ``feed`` takes events on the loop.

    ``is_open`` tells whether blocks of a request are still to come.
    """

    def __init__(
        self,
        origin: Origin,
        download: Download,
        is_open: Callable[[SourceId, int], bool],
        feed: Callable[[Event], None],
        failed: Callable[[DreamerError], None],
        tasks: TaskSet,
    ) -> None:
        self._origin = origin
        self._download = download
        self._is_open = is_open
        self._feed = feed
        self._failed = failed
        self._tasks = tasks
        self._pieces: dict[int, list[Piece]] = {}
        self._waiting: deque[Piece] = deque()
        self._running = 0
        self._width = Width(ORIGIN_PARALLEL_REQUESTS, ORIGIN_PARALLEL_MAX_REQUESTS)
        # Threads of its own: a GET that hangs must not take one that the store needs.
        self._threads = ThreadPoolExecutor(ORIGIN_PARALLEL_MAX_REQUESTS, "dreamer-origin")
        self.last_error: str | None = None
        # By how much blocks were larger than what came over the wire for them.
        self.saved_bytes = 0

    def fetch(self, command: Fetch) -> None:
        """Begin a request."""
        blocks = range(command.first, command.first + command.count)
        parts = [Piece(command.request, part) for part in _cut(blocks, self._width.now)]
        self._pieces[command.request] = parts
        self._waiting.extend(parts)
        self._begin_more()

    def cancel(self, command: Cancel) -> None:
        """End a request, or what of it brings only blocks that others bring now."""
        if not self._is_open(ORIGIN, command.request):
            self._end(command.request)
        elif command.block is not None:
            self._settle(command.request, command.block, cancelled=True)

    def close(self) -> None:
        """End every request."""
        for request in list(self._pieces):
            self._end(request)
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _end(self, request: int) -> None:
        ended = self._pieces.pop(request, [])
        for piece in ended:
            piece.stop.set()
        if ended:
            self._waiting = deque(one for one in self._waiting if one.request != request)

    def _settle(self, request: int, block: int, *, cancelled: bool) -> None:
        for piece in self._pieces.get(request, []):
            piece.settle(block, cancelled=cancelled)

    def _begin_more(self) -> None:
        while self._waiting and self._running < self._width.now:
            self._running += 1
            self._tasks.start(self._run(self._waiting.popleft()))

    async def _run(self, piece: Piece) -> None:
        loop = asyncio.get_running_loop()
        fetching = Fetching(piece, self._tell, self._absent, self._saved, loop)
        try:
            # It may have been ended before this task began, and the threads with it.
            stopping.check(piece.stop)
            piece.narrow()
            await asyncio.get_running_loop().run_in_executor(
                self._threads, fetching.run, self._origin, self._download
            )
        except StoppedError:
            pass
        except LocalError as error:
            self._failed(error)
        except DreamerError as error:
            self._refused(piece, error)
        finally:
            self._running -= 1
            if not self._running:
                self._width.idle()
            if not self._is_open(ORIGIN, piece.request):
                self._end(piece.request)
            self._begin_more()

    def _tell(self, event: Event) -> None:
        match event:
            case BytesArrived(_, size_bytes):
                self._width.moved(size_bytes, time.monotonic())
            case BlockVerified(_, request, block) | BlockRejected(_, request, block):
                self._settle(request, block, cancelled=False)
        self._feed(event)

    def _saved(self, size_bytes: int) -> None:
        self.saved_bytes += size_bytes

    def _absent(self, blocks: range, reason: str) -> None:
        if self.last_error != reason:
            log.warning("the origin lacks a part of the model: %s", reason)
        self.last_error = reason
        self._feed(SourceLacks(ORIGIN, bitfield.span(blocks.start, len(blocks))))

    def _refused(self, piece: Piece, error: DreamerError) -> None:
        if piece.stop.is_set():
            # Another part of it failed first: alike most likely, and once is enough.
            return
        self.last_error = str(error)
        log.warning("the origin failed: %s", error)
        self._end(piece.request)
        self._feed(RequestRefused(ORIGIN, piece.request, False))
        if isinstance(error, OriginRefusedError):
            # Asking again would change nothing.
            self._feed(SourceLost(ORIGIN))


def _cut(blocks: range, parts: int) -> Iterator[range]:
    size = max(ORIGIN_PIECE_MIN_BLOCKS, -(-len(blocks) // parts))
    yield from (blocks[at : at + size] for at in range(0, len(blocks), size))


class Fetching:
    """One GET, in a thread; what comes of it is told on the loop."""

    def __init__(
        self,
        piece: Piece,
        tell: Callable[[Event], None],
        absent: OnAbsent,
        saved: Callable[[int], None],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._piece = piece
        self._tell = tell
        self._absent = absent
        self._saved = saved
        self._loop = loop
        self._untold_bytes = 0
        self._told_at = time.monotonic()

    def run(self, origin: Origin, download: Download) -> None:
        """Fetch, verify and write the blocks; raises as ``fetch_blocks`` does."""
        piece = self._piece
        fetch_blocks(
            *(origin, download, piece.blocks, piece.stop),
            *(self._verified, self._rejected, self._arrived, self._say_absent),
            saved=self._say_saved,
        )

    def _say_absent(self, blocks: range, reason: str) -> None:
        self._loop.call_soon_threadsafe(self._absent, blocks, reason)

    def _say_saved(self, size_bytes: int) -> None:
        self._loop.call_soon_threadsafe(self._saved, size_bytes)

    def _verified(self, block: int) -> None:
        self._say_bytes()
        self._say(BlockVerified(ORIGIN, self._piece.request, block))

    def _rejected(self, block: int) -> None:
        self._say(BlockRejected(ORIGIN, self._piece.request, block))

    def _arrived(self, size_bytes: int) -> None:
        # Waking the loop for each of them would cost it more than the blocks do.
        self._untold_bytes += size_bytes
        if time.monotonic() >= self._told_at + ORIGIN_TELL_INTERVAL_S:
            self._say_bytes()

    def _say_bytes(self) -> None:
        self._told_at = time.monotonic()
        size_bytes, self._untold_bytes = self._untold_bytes, 0
        if size_bytes:
            self._say(BytesArrived(ORIGIN, size_bytes))

    def _say(self, event: Event) -> None:
        self._loop.call_soon_threadsafe(self._tell, event)
