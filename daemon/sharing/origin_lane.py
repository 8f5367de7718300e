"""The origin as one of a pull's sources: requests become ranged GETs in threads."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable

from dreamer.daemon.origin.faults import OriginMissingError, OriginRefusedError
from dreamer.daemon.origin.fetch import fetch_blocks
from dreamer.daemon.origin.origin import Origin
from dreamer.daemon.store.download import Download
from dreamer.daemon.tasks import TaskSet
from dreamer.protocol.errors import DreamerError, LocalError, StoppedError
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

log = logging.getLogger(__name__)

ORIGIN = SourceId("origin")


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
        self.last_error: str | None = None

    def fetch(self, command: Fetch) -> None:
        """Begin a request."""
        stop = self._stops[command.request] = threading.Event()
        self._tasks.start(self._run(command, stop))

    def cancel(self, command: Cancel) -> None:
        """End a request; a single block of one is not worth a new GET."""
        stop = self._stops.get(command.request)
        if stop is not None and not self._is_open(ORIGIN, command.request):
            stop.set()

    def close(self) -> None:
        """End every request."""
        for stop in self._stops.values():
            stop.set()

    async def _run(self, command: Fetch, stop: threading.Event) -> None:
        loop, number = asyncio.get_running_loop(), command.request

        def verified(block: int) -> None:
            loop.call_soon_threadsafe(self._feed, BlockVerified(ORIGIN, number, block))

        def rejected(block: int) -> None:
            loop.call_soon_threadsafe(self._feed, BlockRejected(ORIGIN, number, block))

        def arrived(size_bytes: int) -> None:
            loop.call_soon_threadsafe(self._feed, BytesArrived(ORIGIN, size_bytes))

        blocks = range(command.first, command.first + command.count)
        try:
            await asyncio.to_thread(
                fetch_blocks,
                self._origin,
                self._download,
                blocks,
                stop,
                verified,
                rejected,
                arrived,
            )
        except StoppedError:
            pass
        except LocalError as error:
            self._failed(error)
        except DreamerError as error:
            self.last_error = str(error)
            log.warning("the origin failed: %s", error)
            self._feed(RequestRefused(ORIGIN, number, False))
            if isinstance(error, OriginRefusedError | OriginMissingError):
                # Asking again would change nothing.
                self._feed(SourceLost(ORIGIN))
        finally:
            stop.set()
            del self._stops[number]
