"""One member's websocket at ``/room``: bounded, paced, and never waited for by the others.

What is sent waits in an outbox of the socket's own, so a client that doesn't read delays nobody
and is cut off when what the tracker has to tell it doesn't fit any more. What is read is paced by
a token bucket: a client that floods is read more slowly, and TCP makes it wait.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncGenerator, Hashable

from aiohttp import ClientConnectionResetError, WSCloseCode, WSMsgType, web

from dreamer.protocol.tracker_limits import (
    TRACKER_HEARTBEAT_S,
    TRACKER_MESSAGE_MAX_BYTES,
    TRACKER_MESSAGES_PER_TURN,
    TRACKER_STOP_TIMEOUT_S,
)
from dreamer.tracker.outbox import Outbox
from dreamer.tracker.public.pace import Pace

_numbers = itertools.count(1)


class ClientSocket:
    """A websocket that a client opened. ``number`` tells it from every other one."""

    def __init__(self, request: web.Request, outbox_max_bytes: int) -> None:
        self.number = next(_numbers)
        self.address = request.remote or ""
        self.host = request.headers.get("Host", "")
        self._request = request
        self._outbox: Outbox[str] = Outbox(outbox_max_bytes)
        self._gone = False
        self._sender: asyncio.Task[None] | None = None
        self._closing: asyncio.Task[None] | None = None
        self.response = web.WebSocketResponse(
            timeout=TRACKER_STOP_TIMEOUT_S,
            heartbeat=TRACKER_HEARTBEAT_S,
            # Answered in messages(), so that a flood of pings is paced like any other.
            autoping=False,
            compress=False,
            max_msg_size=TRACKER_MESSAGE_MAX_BYTES,
        )

    async def open(self) -> None:
        """Answer the upgrade."""
        await self.response.prepare(self._request)

    async def messages(self) -> AsyncGenerator[str | bytes, None]:
        """Yield what the client sends, no faster than its pace allows, until it is gone."""
        pace = Pace(time.monotonic())
        for turn in itertools.count(1):
            message = await self.response.receive()
            if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                yield message.data
            elif message.type is WSMsgType.PING:
                await self.response.pong(message.data)
            elif message.type is not WSMsgType.PONG:
                return
            delay_s = max(0.0, pace.delay_s(time.monotonic()))
            # Messages that are in the buffer already come without a pause: let others have a turn.
            if delay_s or turn % TRACKER_MESSAGES_PER_TURN == 0:
                await asyncio.sleep(delay_s)

    def post(self, text: str) -> None:
        """Send a message as soon as the client reads; cut it off if too much is waiting."""
        if self._gone or self.response.closed:
            return
        self._outbox.put(text)
        if self._outbox.overfull:
            self.cut()
        else:
            self._wake()

    def forward(self, sender: Hashable, text: str) -> bool:
        """Send what another client handed on; False: dropped, it has too much waiting here."""
        if self._gone or self.response.closed or not self._outbox.forward(sender, text):
            return False
        self._wake()
        return True

    def cut(self) -> None:
        """Drop the connection without a word, whatever is waiting."""
        self._gone = True
        self._outbox.clear()
        # Abort, not close: close would wait for the client to read what it doesn't read.
        if self._request.transport is not None:
            self._request.transport.abort()

    def hang_up(self, code: int = WSCloseCode.OK) -> None:
        """Send what is waiting, then close, without waiting for it."""
        if self._closing is None:
            self._closing = asyncio.create_task(self._close(code))

    async def close(self, code: int = WSCloseCode.OK) -> None:
        """Send what is waiting, then close; a client that doesn't react is cut off."""
        self.hang_up(code)
        if self._closing is not None:
            await asyncio.shield(self._closing)

    async def _close(self, code: int) -> None:
        sender = self._sender
        if sender is not None:
            await asyncio.wait([sender], timeout=TRACKER_STOP_TIMEOUT_S)
            if not sender.done():
                self.cut()
                sender.cancel()
        await self.response.close(code=code)

    def _wake(self) -> None:
        if self._sender is None:
            self._sender = asyncio.create_task(self._send())

    async def _send(self) -> None:
        try:
            # Whoever reads from this socket notices that it is gone, and cleans up.
            with contextlib.suppress(ClientConnectionResetError, ConnectionError):
                while self._outbox:
                    await self.response.send_str(self._outbox.first())
                    # Cut meanwhile, it has nothing left to tick off.
                    if self._outbox:
                        self._outbox.sent()
        finally:
            self._sender = None
