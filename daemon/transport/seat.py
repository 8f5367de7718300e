"""The daemon's end of one transport process: its socket, its links, its end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable

from dreamer.daemon.child_messages import encode
from dreamer.daemon.transport.vocabulary import FromTransport, ToTransport, read_event

STOP_TIMEOUT_S = 3.0


class Seat:
    """A transport process that runs, or is about to: what is sent before it does waits."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        self._waiting: list[bytes] = []
        self._writer: asyncio.StreamWriter | None = None
        self._stopping = False
        self.links: set[int] = set()
        self.pid: int | None = None

    def send(self, command: ToTransport) -> None:
        """Pass a command on; what a process that has ended is told comes to nothing."""
        data = encode(command)
        if self._writer is None:
            self._waiting.append(data)
        elif not self._writer.is_closing():
            self._writer.write(data)

    async def converse(self, tell: Callable[[FromTransport], None]) -> None:
        """Hand over its events until it ends."""
        reader, self._writer = await asyncio.open_connection(sock=self._end)
        try:
            for data in self._waiting:
                self._writer.write(data)
            self._waiting.clear()
            if self._stopping:
                self._writer.write_eof()
            while (event := await read_event(reader)) is not None:
                tell(event)
        finally:
            self._writer.close()

    async def stop(self, conversation: asyncio.Task[None]) -> None:
        """Have it end, if need be by force."""
        self._stopping = True
        if self._writer is not None and not self._writer.is_closing():
            with contextlib.suppress(OSError):
                self._writer.write_eof()
        await asyncio.wait([conversation], timeout=STOP_TIMEOUT_S)
        if not conversation.done():
            if self.pid is not None:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(self.pid, signal.SIGKILL)
            conversation.cancel()
            await asyncio.wait([conversation])
