"""A worker process: serves the public websockets that the main process hands to it.

It is started by ``crew`` with its end of a channel, and ends when the channel does: with the main
process, even if that is killed. It opens no port and no file.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import signal
import socket
import sys
import time
from typing import cast

from dreamer.protocol.tracker_limits import (
    TRACKER_STOP_TIMEOUT_S,
    TRACKER_SWEEP_INTERVAL_S,
    TRACKER_TICK_S,
    WORKER_ENDED_PER_NOTE,
    WORKER_REPORT_INTERVAL_S,
)
from dreamer.tracker.cluster.join import join
from dreamer.tracker.door import Door
from dreamer.tracker.places import Place, Places
from dreamer.tracker.public.announce import AnnounceHandler
from dreamer.tracker.public.elsewhere import Elsewhere
from dreamer.tracker.public.local_peers import LocalPeers
from dreamer.tracker.public.swarms import Swarms
from dreamer.tracker.stats import Tally, counts_of
from dreamer.tracker.workers.channel import Begin, Channel, ClosedError, Ready, Report, Serve

log = logging.getLogger(__name__)


class HandedPlace(Place):
    """The place of a connection among those of its address, which the main process counts."""

    __slots__ = ("_ended", "_number")

    def __init__(self, places: Places, number: int, ended: list[int]) -> None:
        super().__init__(places, "")
        self._number = number
        self._ended = ended

    def give_back(self) -> None:
        """Note that the connection has ended."""
        self._ended.append(self._number)


class HandedPlaces(Places):
    """Whoever is let in here has been counted and found few enough by the main process."""

    def __init__(self) -> None:
        super().__init__(0)
        self.coming = 0
        self.ended: list[int] = []

    def take(self, address: str) -> Place:
        """Return the place of the connection that is ``coming``."""
        return HandedPlace(self, self.coming, self.ended)


class Arrival(asyncio.Protocol):
    """A connection that was handed over: it goes on with what was read from it before."""

    def __init__(self, door: Door, places: HandedPlaces, note: Serve) -> None:
        self._door = door
        self._places = places
        self._note = note

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Let it come in as if it had just said all that."""
        # Before the transport reads for the first time, so nothing can overtake what is here.
        self._places.coming = self._note.number
        visitor = self._door()
        cast(asyncio.Transport, transport).set_protocol(visitor)
        visitor.connection_made(transport)
        visitor.data_received(self._note.data)


class Worker:
    """The public side of a tracker, without a door of its own."""

    def __init__(self, channel: Channel, elsewhere: Elsewhere, rng: random.Random) -> None:
        self.over = asyncio.Event()
        self._channel = channel
        self._elsewhere = elsewhere
        self._tally = Tally()
        self._swarms = Swarms(rng, elsewhere.changed)
        self._announce = AnnounceHandler(self._swarms, self._tally, elsewhere=elsewhere)
        self._places = HandedPlaces()
        self._door = Door(self._announce, _no_web, self._places)
        self._arriving: set[asyncio.Task[None]] = set()

    async def run(self) -> None:
        """Serve until the channel ends; then say goodbye to all clients."""
        here = LocalPeers(self._swarms, self._tally, self._announce.deliver)
        sharing = asyncio.create_task(self._elsewhere.run(here))
        await self._elsewhere.started()
        chores = [asyncio.create_task(each) for each in (self._tick(), self._sweep(), self._tell())]
        loop = asyncio.get_running_loop()
        loop.add_reader(self._channel.fileno(), self._read)
        self._channel.send(Ready())
        try:
            await self.over.wait()
        finally:
            loop.remove_reader(self._channel.fileno())
            await self._announce.close()
            for task in (*chores, sharing):
                task.cancel()
            await asyncio.wait([*chores, sharing], timeout=TRACKER_STOP_TIMEOUT_S)

    def _read(self) -> None:
        try:
            for note, descriptor in self._channel.receive():
                if not isinstance(note, Serve):
                    continue
                if descriptor is None:
                    # The system lets this process have no more; the kernel has hung up.
                    self._places.ended.append(note.number)
                else:
                    self._arrive(note, descriptor)
        except ClosedError:
            self.over.set()

    def _arrive(self, note: Serve, descriptor: int) -> None:
        task = asyncio.create_task(self._adopt(note, descriptor))
        self._arriving.add(task)
        task.add_done_callback(self._arriving.discard)

    async def _adopt(self, note: Serve, descriptor: int) -> None:
        loop = asyncio.get_running_loop()
        connection = socket.socket(fileno=descriptor)
        connection.setblocking(False)
        try:
            await loop.connect_accepted_socket(
                lambda: Arrival(self._door, self._places, note), connection
            )
        except OSError:
            # The client is gone already.
            connection.close()
            self._places.ended.append(note.number)

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TRACKER_TICK_S)
            self._announce.tick(time.monotonic())

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(TRACKER_SWEEP_INTERVAL_S)
            self._swarms.prune(time.monotonic())

    async def _tell(self) -> None:
        while True:
            await asyncio.sleep(WORKER_REPORT_INTERVAL_S)
            ended = self._places.ended[:WORKER_ENDED_PER_NOTE]
            if self._channel.send(Report(counts_of(self._swarms, self._tally), ended)):
                del self._places.ended[: len(ended)]


def _no_web() -> asyncio.Protocol:
    raise AssertionError("the main process hands over public websockets only")


async def _serve(end: socket.socket) -> None:
    channel = Channel(end)
    loop = asyncio.get_running_loop()
    come = asyncio.Event()
    loop.add_reader(channel.fileno(), come.set)
    await come.wait()
    loop.remove_reader(channel.fileno())
    rng = random.Random(random.SystemRandom().getrandbits(256))  # noqa: S311
    with contextlib.suppress(ClosedError):
        for note, _ in channel.receive():
            assert isinstance(note, Begin), "nothing comes before it"
            # Nothing else is sent before the worker has said that it is ready.
            await Worker(channel, join(note.redis, rng), rng).run()
            return


def main() -> None:
    """Run a worker on the descriptor that the command line names."""
    # Ctrl-C in a terminal reaches all processes: the main one decides, and takes this one along.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    logging.basicConfig(format="dreamer-tracker worker: %(message)s", level=logging.WARNING)
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(socket.socket(fileno=int(sys.argv[1]))))


if __name__ == "__main__":
    main()
