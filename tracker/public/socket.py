"""One WebTorrent client's websocket, as cheap as it can be: there may be a hundred thousand.

No task, timer or buffer belongs to a socket that is idle. What it reads is handled as it arrives,
no faster than the client's pace allows and a few messages a turn, so that a flood is read more
slowly and TCP makes it wait. What it sends waits for the end of the turn, and then in the
transport. Only while the client doesn't read does it go into an outbox: then the rules of
``outbox`` hold, and others can't have a client cut off, nor can it cost more than its bound.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Hashable
from typing import Protocol

from dreamer.protocol.tracker_limits import (
    TRACKER_DEAD_AFTER_S,
    TRACKER_HEARTBEAT_S,
    TRACKER_MESSAGE_MAX_BYTES,
    TRACKER_OUTBOX_MAX_BYTES,
    TRACKER_PUBLIC_MESSAGES_PER_TURN,
    TRACKER_REST_S,
    TRACKER_STOP_TIMEOUT_S,
)
from dreamer.tracker.outbox import Outbox
from dreamer.tracker.places import Place
from dreamer.tracker.public import framing
from dreamer.tracker.public.framing import FrameReader, FramingError
from dreamer.tracker.public.pace import Pace
from dreamer.tracker.public.postbag import Postbag

_numbers = itertools.count(1)
_clock = time.monotonic
_FLUSH_AT = 16
_PING = framing.frame(framing.PING, b"")


class Host(Protocol):
    """Whoever serves the clients of public sockets."""

    def entered(self, socket: PublicSocket) -> None:
        """Welcome a client."""
        ...

    def take(self, socket: PublicSocket, message: bytearray) -> None:
        """Handle what a client says: UTF-8, whatever kind of frame it came in."""
        ...

    def left(self, socket: PublicSocket) -> None:
        """Forget a client; called once."""
        ...


# How far a socket is on its way out. Numbers, for looking up an enum's takes longer than a message
# may. While closing, our goodbye is sent, and what still comes is read only for the client's.
_OPEN, _CLOSING, _GONE = 0, 1, 2


class PublicSocket(asyncio.Protocol):
    """A websocket after its handshake. ``number`` tells it from every other one."""

    __slots__ = (
        "_deadline", "_frames", "_heard_at", "_host", "_outbox", "_pace", "_place", "_postbag",
        "_resting", "_state", "_stuck", "_transport", "_unsent", "bad", "number",
    )  # fmt: skip

    def __init__(
        self, host: Host, transport: asyncio.Transport, place: Place, postbag: Postbag
    ) -> None:
        """``place`` is what it takes of its address' share."""
        self.number = next(_numbers)
        self.bad = 0
        """How many messages couldn't be used; the host counts them."""
        self._host = host
        self._transport = transport
        self._place = place
        self._postbag = postbag
        self._unsent: list[bytes] | None = None
        self._state = _OPEN
        self._heard_at = _clock()
        self._pace = Pace(self._heard_at)
        self._frames: FrameReader | None = FrameReader(TRACKER_MESSAGE_MAX_BYTES)
        self._outbox: Outbox[bytes] | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._stuck = self._resting = False
        host.entered(self)

    def post(self, text: bytes) -> None:
        """Send a message of the tracker's own; cut the client off if too much is waiting."""
        self._put(framing.text_frame(text))

    def forward(self, sender: Hashable, text: bytes) -> bool:
        """Send what another client handed on; False: dropped, it has too much waiting here."""
        if self._state:
            return False
        frame = framing.text_frame(text)
        if self._outbox is not None:
            return self._outbox.forward(sender, frame)
        self._write(frame)
        return True

    def cut(self) -> None:
        """Drop the connection without a word, whatever is waiting."""
        self._state = _GONE
        self._outbox = None
        self._transport.abort()

    def close(self, code: int) -> None:
        """Say goodbye; whoever doesn't answer in time is cut off."""
        self._put(framing.frame(framing.CLOSE, code.to_bytes(2, "big")))
        if self._state == _OPEN:
            self._state = _CLOSING
            loop = asyncio.get_running_loop()
            self._deadline = loop.call_later(TRACKER_STOP_TIMEOUT_S, self.cut)

    def look(self, now: float) -> None:
        """Ping a client that has been silent; cut it off if it has been for too long."""
        silent_s = now - self._heard_at
        if silent_s > TRACKER_DEAD_AFTER_S:
            self.cut()
        elif silent_s > TRACKER_HEARTBEAT_S:
            self._put(_PING)

    def flush(self) -> None:
        """Give the transport what this turn has brought."""
        unsent, self._unsent = self._unsent, None
        if unsent is not None and self._state != _GONE:
            # This may pause the writing.
            self._transport.write(unsent[0] if len(unsent) == 1 else b"".join(unsent))

    # What the transport calls.

    def data_received(self, data: bytes) -> None:
        """Take what has arrived."""
        # After a mistake in its framing nothing that a client sends has a meaning.
        if self._frames is not None:
            self._frames.feed(data)
            if not self._resting:
                self._work(self._frames)

    def connection_lost(self, error: Exception | None) -> None:
        """Be gone."""
        self._state = _GONE
        self._outbox = None
        if self._deadline is not None:
            self._deadline.cancel()
        self._place.give_back()
        self._host.left(self)

    def pause_writing(self) -> None:
        """Keep what is to be sent, since the client doesn't read."""
        self._stuck = True
        if self._outbox is None:
            self._outbox = Outbox(TRACKER_OUTBOX_MAX_BYTES)

    def resume_writing(self) -> None:
        """Send what was kept, as far as it goes."""
        self._stuck = False
        while self._outbox and not self._stuck:
            frame = self._outbox.first()
            self._outbox.sent()
            # This may pause the writing again.
            self._transport.write(frame)
        if not self._stuck:
            self._outbox = None

    def _put(self, frame: bytes) -> None:
        if self._state:
            return
        if self._outbox is None:
            self._write(frame)
            return
        self._outbox.put(frame)
        if self._outbox.overfull:
            self.cut()

    def _write(self, frame: bytes) -> None:
        if self._unsent is None:
            self._unsent = [frame]
            self._postbag.add(self)
            return
        self._unsent.append(frame)
        # Many may send to one in the same turn: then it is time to see whether this one reads.
        if len(self._unsent) >= _FLUSH_AT:
            self.flush()

    def _work(self, frames: FrameReader) -> None:
        now = _clock()
        try:
            for _ in range(TRACKER_PUBLIC_MESSAGES_PER_TURN):
                message = frames.next()
                if message is None:
                    return
                # Only whole frames count: one that comes byte by byte is no sign of life.
                self._heard_at = now
                self._take(*message)
                delay_s = self._pace.delay_s(now)
                if delay_s > 0:
                    self._rest(max(delay_s, TRACKER_REST_S))
                    return
                if not frames.rest or self._transport.is_closing():
                    return
            # What the client sent at once comes without a pause: let others have a turn.
            self._rest(0)
        except FramingError as error:
            self._frames = None
            self.close(error.status)

    def _rest(self, delay_s: float) -> None:
        if self._transport.is_closing():
            return
        self._resting = True
        self._transport.pause_reading()
        asyncio.get_running_loop().call_later(delay_s, self._go_on)

    def _go_on(self) -> None:
        if self._state == _GONE or self._transport.is_closing() or self._frames is None:
            return
        self._resting = False
        self._work(self._frames)
        if not self._resting and not self._transport.is_closing():
            self._transport.resume_reading()

    def _take(self, kind: int, payload: bytearray) -> None:
        if kind == framing.TEXT and not self._state:
            self._host.take(self, payload)
        elif kind == framing.CLOSE:
            self._part(payload)
        elif self._state:
            return
        elif kind == framing.BINARY:
            # Of a text that is checked already. What isn't one is as good as nothing.
            self._host.take(self, payload if framing.is_utf8(payload) else bytearray())
        elif kind == framing.PING:
            self._put(framing.frame(framing.PONG, bytes(payload)))

    def _part(self, payload: bytearray) -> None:
        code = framing.close_code(payload)
        # The first goodbye is answered in kind (RFC 6455, section 5.5.1), then the server hangs up.
        self.close(framing.NORMAL if code == framing.NO_CODE else code)
        self.flush()
        if not self._stuck:
            self._transport.close()
