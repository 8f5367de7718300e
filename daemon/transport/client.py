"""The daemon's transport processes: links are spread over them, so that bulk uses several cores.

One Python process does one link's worth of SCTP at a time. The first link goes to one process,
the next to a second, up to ``processes``; then each to the one with the fewest. A process that
dies takes its own links along and no others, and the next link starts another.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import sys
from collections import deque
from collections.abc import Callable

from dreamer.daemon.transport.seat import STOP_TIMEOUT_S, Seat
from dreamer.daemon.transport.vocabulary import (
    PROCESS_ID,
    Answer,
    CloseLink,
    FromTransport,
    LinkClosed,
    Offer,
    ToTransport,
)
from dreamer.protocol.limits import TRANSPORT_PROCESSES_MAX, TRANSPORT_RESTART_S

log = logging.getLogger(__name__)


def process_count(configured: int) -> int:
    """Return how many processes a setting means; 0 is one for each core, four at most."""
    return configured or min(TRANSPORT_PROCESSES_MAX, os.cpu_count() or 1)


class Transport:
    """The transport processes of a daemon. ``on_event`` is called on the daemon's loop."""

    def __init__(self, on_event: Callable[[FromTransport], None], processes: int = 1) -> None:
        self._on_event = on_event
        self._processes = processes
        self._seats: dict[Seat, asyncio.Task[None]] = {}
        # Seats that the fork server has yet to be told of, and those it owes a process id.
        self._unborn: deque[tuple[Seat, socket.socket]] = deque()
        self._owed: deque[Seat] = deque()
        self._orders: socket.socket | None = None
        self._last_link = 0
        self.ready = asyncio.Event()
        """Set while there is a process to fork from."""

    @property
    def pids(self) -> list[int]:
        """The process ids of those that run, for memory accounting and tests."""
        return [seat.pid for seat in self._seats if seat.pid is not None]

    def pid_of(self, link: int) -> int | None:
        """Return the process id of the one that has a link."""
        seat = self._seat_of(link)
        return seat.pid if seat else None

    def new_link(self) -> int:
        """Return a number no link has had."""
        self._last_link += 1
        return self._last_link

    def send(self, command: ToTransport) -> None:
        """Pass a command on to the process that has its link."""
        if isinstance(command, Offer | Answer):
            seat = self._roomiest()
            seat.links.add(command.link)
            seat.send(command)
        elif found := self._seat_of(command.link):
            if isinstance(command, CloseLink):
                found.links.discard(command.link)
            found.send(command)

    async def run(self) -> None:
        """Keep a process to fork from running until cancelled; then end them all."""
        try:
            while True:
                await self._fork_server()
                log.error("the process that transport processes are forked from ended by itself")
                await asyncio.sleep(TRANSPORT_RESTART_S)
        finally:
            for seat in self._seats:
                # Whoever stops us knows that their links end.
                seat.links.clear()
            await asyncio.gather(*(seat.stop(task) for seat, task in self._seats.items()))

    def _seat_of(self, link: int) -> Seat | None:
        return next((seat for seat in self._seats if link in seat.links), None)

    def _roomiest(self) -> Seat:
        """Return the process with the fewest links; a new one rather than share, if one may be."""
        seats = sorted(self._seats, key=lambda seat: len(seat.links))
        if seats and (not seats[0].links or len(seats) >= self._processes):
            return seats[0]
        ours, theirs = socket.socketpair()
        seat = Seat(ours)
        self._seats[seat] = asyncio.get_running_loop().create_task(self._run_seat(seat))
        self._unborn.append((seat, theirs))
        self._order()
        return seat

    def _order(self) -> None:
        """Tell the fork server of all that it has not been told of."""
        while self._unborn and self._orders is not None:
            seat, theirs = self._unborn.popleft()
            with theirs, contextlib.suppress(OSError):
                # A fork server that has just died leaves a socket without a process: it is closed
                # with ``theirs``, and its links are lost like those of any process that ends.
                socket.send_fds(self._orders, [b"+"], [theirs.fileno()])
                self._owed.append(seat)

    async def _run_seat(self, seat: Seat) -> None:
        try:
            await seat.converse(lambda event: self._tell(seat, event))
        except Exception:
            log.exception("a transport process says what makes no sense")
        finally:
            del self._seats[seat]
        if seat.links:
            log.error("a transport process ended by itself; its links are gone")
        for link in sorted(seat.links):
            self._on_event(LinkClosed(link, "our transport process ended", False))

    def _tell(self, seat: Seat, event: FromTransport) -> None:
        if isinstance(event, LinkClosed):
            seat.links.discard(event.link)
        try:
            self._on_event(event)
        except Exception:
            # One peer's nonsense must not end the links of all others, whatever it found in us.
            log.exception("closing link %d: an event of it could not be handled", event.link)
            self.send(CloseLink(event.link))
            if not isinstance(event, LinkClosed):
                self._tell(seat, LinkClosed(event.link, "an event could not be handled", False))

    async def _fork_server(self) -> None:
        """Run the process to fork from until it ends by itself or this is cancelled."""
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        with theirs:
            forking = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "dreamer.daemon.transport", str(theirs.fileno())),
                pass_fds=[theirs.fileno()],
                stdin=asyncio.subprocess.DEVNULL,
            )
        self._orders = ours
        self.ready.set()
        self._order()
        try:
            # One that is killed with an order unread resets the connection instead of ending it.
            with contextlib.suppress(ConnectionError):
                await self._note_births(ours)
        finally:
            self._orders = None
            self.ready.clear()
            self._owed.clear()
            ours.close()
            await _end(forking)

    async def _note_births(self, orders: socket.socket) -> None:
        loop, answer = asyncio.get_running_loop(), b""
        while data := await loop.sock_recv(orders, PROCESS_ID.size - len(answer)):
            answer += data
            if len(answer) == PROCESS_ID.size and self._owed:
                (self._owed.popleft().pid,), answer = PROCESS_ID.unpack(answer), b""


async def _end(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(STOP_TIMEOUT_S):
            await process.wait()
    if process.returncode is None:
        process.kill()
        await process.wait()
