"""The workers of a tracker: started, given connections, replaced when they die, taken along.

The main process accepts, serves HTTP and rooms (one process holds the store), and hands each
public websocket to the worker that has fewest. What a worker can't take, the main process serves.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping

from dreamer.protocol.tracker_limits import (
    TRACKER_START_TIMEOUT_S,
    TRACKER_STOP_TIMEOUT_S,
    WORKER_HANDOVER_MAX_BYTES,
    WORKER_REPORT_INTERVAL_S,
    WORKER_RESTART_BASE_S,
    WORKER_RESTART_MAX_S,
    WORKER_SILENCE_S,
)
from dreamer.tracker.places import Place
from dreamer.tracker.workers.channel import (
    Begin,
    Channel,
    ClosedError,
    Ready,
    Report,
    Serve,
    pair,
)

log = logging.getLogger(__name__)

_GAUGES = ("swarms", "seeders", "leechers", "sockets")


class Hand:
    """One worker process, as the main one sees it."""

    def __init__(
        self,
        channel: Channel,
        process: asyncio.subprocess.Process,
        served: Callable[[], None],
    ) -> None:
        """``served`` is called once it is ready to."""
        self.channel = channel
        self.process = process
        self.ready = False
        self._served = served
        self.gone = asyncio.Event()
        self.heard_at = time.monotonic()
        self.counts: Mapping[str, int] = {}
        self.places: dict[int, Place] = {}

    def read(self) -> None:
        """Take what the worker says."""
        try:
            for note, descriptor in self.channel.receive():
                if descriptor is not None:
                    # A worker has none to give.
                    os.close(descriptor)
                self.heard_at = time.monotonic()
                if isinstance(note, Ready):
                    self.ready = True
                    self._served()
                elif isinstance(note, Report):
                    self._take(note)
        except ClosedError:
            self.gone.set()

    def _take(self, report: Report) -> None:
        self.counts = report.counts
        for number in report.ended:
            if place := self.places.pop(number, None):
                place.give_back()


class Crew:
    """All workers; see ``door.Crew``."""

    def __init__(self, size: int, redis: str) -> None:
        self._size = size
        self._redis = redis
        self._hands: dict[int, Hand] = {}
        self._numbers = 0
        self._past: Counter[str] = Counter()
        self._keeping: list[asyncio.Task[None]] = []
        self._complete = asyncio.Event()

    async def start(self) -> None:
        """Start all workers, and wait until they serve, or some can't."""
        self._keeping = [asyncio.create_task(self._keep(slot)) for slot in range(self._size)]
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(TRACKER_START_TIMEOUT_S):
                await self._complete.wait()

    async def close(self) -> None:
        """End all workers; whoever isn't done in time is killed."""
        for each in self._keeping:
            each.cancel()
        if self._keeping:
            await asyncio.wait(self._keeping)

    def serving(self) -> int:
        """Return how many workers serve."""
        return sum(hand.ready for hand in self._hands.values())

    def pids(self) -> list[int]:
        """Return the workers' process ids, in the order of their places."""
        return [self._hands[slot].process.pid for slot in sorted(self._hands)]

    def counts(self) -> dict[str, int]:
        """Return the counts of all workers; what ended ones did still counts."""
        total = self._past.copy()
        for hand in self._hands.values():
            total.update(hand.counts)
        return dict(total)

    def hand_over(self, transport: asyncio.Transport, data: bytes, place: Place) -> bool:
        """Give a connection away, with what was read from it; False: it must be served here."""
        if len(data) > WORKER_HANDOVER_MAX_BYTES:
            return False
        descriptor = transport.get_extra_info("socket").fileno()
        self._numbers += 1
        ready = [hand for hand in self._hands.values() if hand.ready]
        for hand in sorted(ready, key=lambda each: len(each.places)):
            # The kernel duplicates the descriptor; one that can't take it now is passed over.
            if hand.channel.send(Serve(self._numbers, data), descriptor):
                hand.places[self._numbers] = place
                return True
        return False

    async def _keep(self, slot: int) -> None:
        failures = 0
        while True:
            began = time.monotonic()
            hand = await self._start()
            self._hands[slot] = hand
            try:
                why = await self._watch(hand)
            finally:
                del self._hands[slot]
                await self._end(hand)
            lived_s = time.monotonic() - began
            failures = 0 if lived_s > WORKER_RESTART_MAX_S else failures + 1
            pause_s = min(WORKER_RESTART_MAX_S, WORKER_RESTART_BASE_S * 2.0 ** min(failures, 16))
            log.warning(
                "worker %d %s after %.0f s: another starts in %.0f s",
                hand.process.pid, why, lived_s, pause_s,
            )  # fmt: skip
            await asyncio.sleep(pause_s)

    async def _start(self) -> Hand:
        channel, theirs = pair()
        with theirs, _closed_on_error(channel):
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "dreamer.tracker.workers.worker", str(theirs.fileno())),
                pass_fds=[theirs.fileno()],
                stdin=asyncio.subprocess.DEVNULL,
                # Whoever reads what the main process prints mustn't wait for the workers' end.
                stdout=asyncio.subprocess.DEVNULL,
            )
        hand = Hand(channel, process, self._check)
        # Not on the command line, where everybody could read the password in it.
        channel.send(Begin(self._redis))
        asyncio.get_running_loop().add_reader(channel.fileno(), hand.read)
        return hand

    def _check(self) -> None:
        if self.serving() == self._size:
            self._complete.set()

    async def _watch(self, hand: Hand) -> str:
        """Return what became of a worker, once it has come to an end."""
        while True:
            try:
                async with asyncio.timeout(WORKER_REPORT_INTERVAL_S):
                    await hand.gone.wait()
                return "ended"
            except TimeoutError:
                # Its reports may be there unread, if it is this process that was held up.
                hand.read()
                if time.monotonic() - hand.heard_at > WORKER_SILENCE_S:
                    hand.process.kill()
                    return "hung"

    async def _end(self, hand: Hand) -> None:
        asyncio.get_running_loop().remove_reader(hand.channel.fileno())
        # That is what tells it to say goodbye to its clients and end.
        hand.channel.close()
        try:
            async with asyncio.timeout(TRACKER_STOP_TIMEOUT_S):
                await hand.process.wait()
        except TimeoutError:
            hand.process.kill()
            await hand.process.wait()
        finally:
            for place in hand.places.values():
                place.give_back()
            self._past.update({k: v for k, v in hand.counts.items() if k not in _GAUGES})


@contextlib.contextmanager
def _closed_on_error(channel: Channel) -> Iterator[None]:
    try:
        yield
    except BaseException:
        channel.close()
        raise
