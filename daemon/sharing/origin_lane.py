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
from dataclasses import dataclass

from dreamer.daemon.origin.faults import OriginMissingError, OriginRefusedError
from dreamer.daemon.origin.fetch import fetch_blocks
from dreamer.daemon.origin.origin import Origin
from dreamer.daemon.store.download import Download
from dreamer.daemon.tasks import TaskSet
from dreamer.protocol.errors import DreamerError, LocalError, StoppedError
from dreamer.protocol.limits import (
    ORIGIN_PARALLEL_MAX_REQUESTS,
    ORIGIN_PARALLEL_REQUESTS,
    ORIGIN_PIECE_MIN_BLOCKS,
    ORIGIN_TELL_INTERVAL_S,
)
from dreamer.protocol.swarm.vocabulary import (
    BlockRejected,
    BlockVerified,
    BytesArrived,
    Cancel,
    Event,
    Fetch,
    RequestRefused,
    SourceId,
    SourceLost,
)
from dreamer.protocol.width import Width

log = logging.getLogger(__name__)

ORIGIN = SourceId("origin")


@dataclass(frozen=True)
class Piece:
    """A part of a request, got by one GET; ``stop`` ends all parts of it."""

    request: int
    blocks: range
    stop: threading.Event


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
        self._stops: dict[int, threading.Event] = {}
        self._waiting: deque[Piece] = deque()
        self._running = 0
        self._width = Width(ORIGIN_PARALLEL_REQUESTS, ORIGIN_PARALLEL_MAX_REQUESTS)
        # Threads of its own: a GET that hangs must not take one that the store needs.
        self._threads = ThreadPoolExecutor(ORIGIN_PARALLEL_MAX_REQUESTS, "dreamer-origin")
        self.last_error: str | None = None

    def fetch(self, command: Fetch) -> None:
        """Begin a request."""
        stop = self._stops[command.request] = threading.Event()
        blocks = range(command.first, command.first + command.count)
        for part in _cut(blocks, self._width.now):
            self._waiting.append(Piece(command.request, part, stop))
        self._begin_more()

    def cancel(self, command: Cancel) -> None:
        """End a request; a single block of one is not worth a new GET."""
        if not self._is_open(ORIGIN, command.request):
            self._end(command.request)

    def close(self) -> None:
        """End every request."""
        for request in list(self._stops):
            self._end(request)
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _end(self, request: int) -> None:
        stop = self._stops.pop(request, None)
        if stop is not None:
            stop.set()
            self._waiting = deque(one for one in self._waiting if one.request != request)

    def _begin_more(self) -> None:
        while self._waiting and self._running < self._width.now:
            self._running += 1
            self._tasks.start(self._run(self._waiting.popleft()))

    async def _run(self, piece: Piece) -> None:
        fetching = Fetching(piece, self._tell, asyncio.get_running_loop())
        try:
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
        if isinstance(event, BytesArrived):
            self._width.moved(event.size_bytes, time.monotonic())
        self._feed(event)

    def _refused(self, piece: Piece, error: DreamerError) -> None:
        if piece.stop.is_set():
            # Another part of it failed first: alike most likely, and once is enough.
            return
        self.last_error = str(error)
        log.warning("the origin failed: %s", error)
        self._end(piece.request)
        self._feed(RequestRefused(ORIGIN, piece.request, False))
        if isinstance(error, OriginRefusedError | OriginMissingError):
            # Asking again would change nothing.
            self._feed(SourceLost(ORIGIN))


def _cut(blocks: range, parts: int) -> Iterator[range]:
    size = max(ORIGIN_PIECE_MIN_BLOCKS, -(-len(blocks) // parts))
    yield from (blocks[at : at + size] for at in range(0, len(blocks), size))


class Fetching:
    """One GET, in a thread; what comes of it is told on the loop."""

    def __init__(
        self, piece: Piece, tell: Callable[[Event], None], loop: asyncio.AbstractEventLoop
    ) -> None:
        self._piece = piece
        self._tell = tell
        self._loop = loop
        self._untold_bytes = 0
        self._told_at = time.monotonic()

    def run(self, origin: Origin, download: Download) -> None:
        """Fetch, verify and write the blocks; raises as ``fetch_blocks`` does."""
        piece = self._piece
        fetch_blocks(
            *(origin, download, piece.blocks, piece.stop),
            *(self._verified, self._rejected, self._arrived),
        )

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
