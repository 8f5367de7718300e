"""Where connections come in: the public protocols are told from the rest of HTTP.

Each connection's first request head is read here, within a bound and a deadline. If it opens a
websocket of the public protocol, a ``PublicSocket`` takes the connection over; if it is an announce
over plain HTTP, it is answered at once; anything else goes, with the bytes read so far, to aiohttp.
So the many are cheap, and the few have a whole web server.
"""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import Callable
from typing import Protocol, cast

from dreamer.protocol.tracker_limits import (
    TRACKER_KERNEL_BUFFER_BYTES,
    TRACKER_REQUEST_HEAD_MAX_BYTES,
    TRACKER_REQUEST_HEAD_TIMEOUT_S,
)
from dreamer.tracker.handshake import HEAD_END, opening, refusal
from dreamer.tracker.places import Place, Places
from dreamer.tracker.public.postbag import Postbag
from dreamer.tracker.public.socket import Host, PublicSocket

_CROWDED = refusal(
    429,
    "Too Many Requests",
    "too many connections come from this address: close some, or have the tracker's owner set "
    "sockets_per_address in [tracker] (0 behind a proxy, where all come from one)\n",
    "Retry-After: 60",
)
_TOO_LARGE = refusal(431, "Request Header Fields Too Large", "this request's head is too long\n")
_TOO_SLOW = refusal(408, "Request Timeout", "no request came in time\n")


class Crew(Protocol):
    """The processes to which public websockets may be handed over."""

    def hand_over(self, transport: asyncio.Transport, data: bytes, place: Place) -> bool:
        """Give a connection away, with what was read from it; False: it must be served here.

        If it goes, so does ``place``: it is given back when the connection ends.
        """
        ...


class Questions(Protocol):
    """Whoever answers announces and scrapes over plain HTTP."""

    def response(self, head: bytes, address: str) -> bytes | None:
        """Return the whole response to a request's head; None: it is something else."""
        ...


class Door:
    """Makes a protocol for each connection. ``web`` makes one of aiohttp's."""

    def __init__(
        self,
        host: Host,
        web: Callable[[], asyncio.Protocol],
        places: Places,
        crew: Crew | None = None,
        questions: Questions | None = None,
    ) -> None:
        """``crew`` serves public websockets, as far as it can; without one they are served here."""
        self.host = host
        self.web = web
        self.crew = crew
        self.questions = questions
        self.places = places
        self.postbag = Postbag()
        # In order of coming, which is that of their deadlines.
        self.visitors: dict[Visitor, None] = {}

    def __call__(self) -> Visitor:
        """Return the protocol of a new connection."""
        return Visitor(self)

    def sweep(self, now: float) -> None:
        """Turn away whoever has not said in time what it wants; ``now`` is steady time."""
        late = now - TRACKER_REQUEST_HEAD_TIMEOUT_S
        for visitor in list(self.visitors):
            if visitor.came_at > late:
                return
            visitor.answer(_TOO_SLOW)

    def close(self) -> None:
        """Drop everybody who is still at the door."""
        for visitor in self.visitors:
            visitor.abort()


class Visitor(asyncio.Protocol):
    """A connection whose first request isn't known yet."""

    __slots__ = ("_address", "_door", "_head", "_place", "_transport", "came_at")

    def __init__(self, door: Door) -> None:
        self.came_at = time.monotonic()
        self._door = door
        self._head = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Be counted."""
        self._transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        self._address = peer[0] if peer else ""
        self._place = self._door.places.take(self._address)
        self._door.visitors[self] = None
        # One too many is told so when it has asked; but that is politeness, and has an end.
        if self._place.over(times=2):
            self.abort()

    def data_received(self, data: bytes) -> None:
        """Take a piece of the request."""
        if self._transport.is_closing():
            return
        if not self._head:
            # Empty lines before a request are to be passed over (RFC 9112, section 2.2). aiohttp
            # does that too, but then waits without a deadline.
            data = data.lstrip(b"\r\n")
        start = max(0, len(self._head) - len(HEAD_END))
        self._head += data
        end = self._head.find(HEAD_END, start)
        if end > TRACKER_REQUEST_HEAD_MAX_BYTES or (
            end < 0 and len(self._head) > TRACKER_REQUEST_HEAD_MAX_BYTES
        ):
            self.answer(_TOO_LARGE)
        elif end >= 0:
            self._decide(end)

    def connection_lost(self, error: Exception | None) -> None:
        """Be gone, before it was known what was wanted."""
        self._door.visitors.pop(self, None)
        self._place.give_back()

    def answer(self, response: bytes) -> None:
        """Answer, and hang up."""
        self._door.visitors.pop(self, None)
        self._transport.write(response)
        self._transport.close()

    def abort(self) -> None:
        """Hang up without a word."""
        self._transport.abort()

    def _decide(self, end: int) -> None:
        if self._place.over():
            self.answer(_CROWDED)
            return
        head = bytes(self._head[:end])
        found = opening(head)
        if found is None:
            self._answer_or_pass_on(head)
        elif not found.accepted:
            self.answer(found.response)
        else:
            self._narrow()
            if not self._give_away():
                self._serve(found.response, bytes(self._head[end + len(HEAD_END) :]))

    def _answer_or_pass_on(self, head: bytes) -> None:
        questions = self._door.questions
        response = questions.response(head, self._address) if questions is not None else None
        if response is not None:
            self.answer(response)
        else:
            self._hand_over(_Guest(self._door.web(), self._place), bytes(self._head))

    def _narrow(self) -> None:
        # What the kernel holds for clients that don't read is memory of the whole machine.
        descriptor = self._transport.get_extra_info("socket")
        for buffer in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            descriptor.setsockopt(socket.SOL_SOCKET, buffer, TRACKER_KERNEL_BUFFER_BYTES)

    def _serve(self, response: bytes, data: bytes) -> None:
        self._transport.write(response)
        door = self._door
        self._hand_over(PublicSocket(door.host, self._transport, self._place, door.postbag), data)

    def _give_away(self) -> bool:
        crew, transport = self._door.crew, self._transport
        if crew is None:
            return False
        # What the kernel has read from now on is left for whoever takes the connection over.
        transport.pause_reading()
        if not crew.hand_over(transport, bytes(self._head), self._place):
            transport.resume_reading()
            return False
        del self._door.visitors[self]
        transport.set_protocol(asyncio.Protocol())
        # Closes this process' descriptor; the other one keeps the connection, and nothing is sent.
        transport.abort()
        return True

    def _hand_over(self, successor: PublicSocket | _Guest, data: bytes) -> None:
        del self._door.visitors[self]
        self._transport.set_protocol(successor)
        successor.connection_made(self._transport)
        if data:
            successor.data_received(data)


class _Guest(asyncio.Protocol):
    """A connection that aiohttp serves, counted until its end."""

    def __init__(self, served: asyncio.Protocol, place: Place) -> None:
        self._place = place
        self._served = served

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Tell aiohttp."""
        self._served.connection_made(transport)

    def data_received(self, data: bytes) -> None:
        """Tell aiohttp."""
        self._served.data_received(data)

    def eof_received(self) -> bool | None:
        """Tell aiohttp."""
        return self._served.eof_received()

    def pause_writing(self) -> None:
        """Tell aiohttp."""
        self._served.pause_writing()

    def resume_writing(self) -> None:
        """Tell aiohttp."""
        self._served.resume_writing()

    def connection_lost(self, error: Exception | None) -> None:
        """Tell aiohttp, and count one less."""
        self._served.connection_lost(error)
        self._place.give_back()
