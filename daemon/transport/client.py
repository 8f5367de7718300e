"""The daemon's end of the transport process: starts it, speaks to it, starts it again."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import sys
from collections.abc import Callable

from dreamer.daemon.transport.vocabulary import (
    Answer,
    CloseLink,
    FromTransport,
    LinkClosed,
    Offer,
    ToTransport,
    encode,
    read_event,
)

log = logging.getLogger(__name__)

STOP_TIMEOUT_S = 3.0


class Transport:
    """A running transport process. ``on_event`` is called on the daemon's loop."""

    def __init__(self, on_event: Callable[[FromTransport], None]) -> None:
        self._on_event = on_event
        self._writer: asyncio.StreamWriter | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._links: set[int] = set()
        self._last_link = 0
        self.ready = asyncio.Event()
        """Set while there is a process to send commands to."""

    @property
    def pid(self) -> int | None:
        """The process id of the transport process, for memory accounting."""
        return self._process.pid if self._process else None

    def new_link(self) -> int:
        """Return a number no link has had."""
        self._last_link += 1
        return self._last_link

    def send(self, command: ToTransport) -> None:
        """Pass a command on; while the process is being restarted, links fail at once."""
        if isinstance(command, CloseLink):
            self._links.discard(command.link)
        elif isinstance(command, Offer | Answer):
            self._links.add(command.link)
        if self._writer is not None and not self._writer.is_closing():
            self._writer.write(encode(command))
        elif command.link in self._links:
            self._links.discard(command.link)
            gone = LinkClosed(command.link, "our transport process is starting again", False)
            asyncio.get_running_loop().call_soon(self._on_event, gone)

    async def run(self) -> None:
        """Keep a transport process running until cancelled."""
        try:
            while True:
                reader = await self._start()
                while (event := await read_event(reader)) is not None:
                    if isinstance(event, LinkClosed):
                        self._links.discard(event.link)
                    self._tell(event)
                await self._lost()
        finally:
            await self._stop()

    def _tell(self, event: FromTransport) -> None:
        try:
            self._on_event(event)
        except Exception:
            # One peer's nonsense must not end the links of all others, whatever it found in us.
            log.exception("closing link %d: an event of it could not be handled", event.link)
            self.send(CloseLink(event.link))
            if not isinstance(event, LinkClosed):
                self._tell(LinkClosed(event.link, "an event could not be handled", False))

    async def _start(self) -> asyncio.StreamReader:
        ours, theirs = socket.socketpair()
        with theirs:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "dreamer.daemon.transport",
                str(theirs.fileno()),
                pass_fds=[theirs.fileno()],
                stdin=asyncio.subprocess.DEVNULL,
            )
        reader, self._writer = await asyncio.open_connection(sock=ours)
        self._process = process
        self.ready.set()
        return reader

    async def _lost(self) -> None:
        log.error("the transport process ended by itself; starting it again")
        await self._stop()
        links, self._links = sorted(self._links), set()
        for link in links:
            self._on_event(LinkClosed(link, "our transport process ended", False))

    async def _stop(self) -> None:
        writer, process = self._writer, self._process
        self._writer = self._process = None
        self.ready.clear()
        if writer is not None:
            writer.close()
        if process is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(STOP_TIMEOUT_S):
                    await process.wait()
            if process.returncode is None:
                process.kill()
                await process.wait()
