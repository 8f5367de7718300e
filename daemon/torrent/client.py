"""The daemon's end of the torrent process: starts it when first needed, and again if it ends."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import socket
import sys
from collections.abc import Callable

from dreamer.daemon.child_messages import encode
from dreamer.daemon.tasks import TaskSet
from dreamer.daemon.torrent.vocabulary import (
    AddTorrent,
    Configure,
    FromTorrent,
    Listening,
    SetLimits,
    SettingsInForce,
    TorrentFailed,
    TorrentRemoved,
    ToTorrent,
    read_event,
)
from dreamer.daemon.torrent.vocabulary import TorrentEvent as TorrentEvent
from dreamer.protocol.limits import TORRENT_EXIT_TIMEOUT_S, TORRENT_RESTART_S

log = logging.getLogger(__name__)

# glibc keeps memory for each of libtorrent's threads, up to eight times the cores.
_FEW_ARENAS = {"MALLOC_ARENA_MAX": "2"}

OnEvent = Callable[[TorrentEvent], None]


class Torrents:
    """All torrents of a node. A node without a public model runs no process for them.

    What is about one torrent goes to whoever added it, on the daemon's loop, ``TorrentFailed`` or
    ``TorrentRemoved`` last. After either of them nothing touches the torrent's files.
    """

    def __init__(self, configure: Configure | None, tasks: TaskSet) -> None:
        """``configure`` None: the node takes part in no torrents."""
        self._configure = configure
        self._tasks = tasks
        self._numbers = itertools.count(1)
        self._listeners: dict[int, OnEvent] = {}
        self._limits = SetLimits(0, 0)
        self._running: asyncio.Task[None] | None = None
        self._waiting: list[ToTorrent] = []
        self._writer: asyncio.StreamWriter | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._settings: list[asyncio.Future[str]] = []
        self._closed = False
        self.port = 0
        """Where peers are accepted; 0 while nothing is."""

    @property
    def enabled(self) -> bool:
        """Whether this node takes part in torrents."""
        return self._configure is not None

    @property
    def pid(self) -> int | None:
        """The id of the torrent process, None while there is none."""
        return self._process.pid if self._process else None

    def new_number(self) -> int:
        """Return a number that no torrent has had."""
        return next(self._numbers)

    def add(self, command: AddTorrent, on_event: OnEvent) -> None:
        """Take part in a swarm."""
        if self._closed:
            on_event(TorrentFailed(command.torrent, "this node is stopping"))
            return
        self._listeners[command.torrent] = on_event
        self.send(command)

    def send(self, command: ToTorrent) -> None:
        """Pass a command on, starting the process if there is none."""
        if self._writer is not None:
            self._writer.write(encode(command))
            return
        self._waiting.append(command)
        if self._running is None and self._configure is not None:
            self._running = self._tasks.start(self._run(self._configure))

    def limit(self, limits: SetLimits) -> None:
        """Bound the rates of all torrents together."""
        self._limits = limits
        if self._writer is not None:
            self._writer.write(encode(limits))

    def expect_settings(self) -> asyncio.Future[str]:
        """Return a future of the answer to ``AskSettings``."""
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._settings.append(answer)
        return answer

    def end_process(self) -> None:
        """Kill the process; whoever added a torrent hears that it failed, and another starts."""
        if self._process is not None and self._process.returncode is None:
            self._process.kill()

    async def close(self) -> None:
        """End the process."""
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)

    async def _run(self, configure: Configure) -> None:
        try:
            while True:
                reader = await self._start(configure)
                while (event := await read_event(reader)) is not None:
                    self._take(event)
                log.error("the torrent process ended by itself; starting it again")
                await self._end()
                self._lost("our torrent process ended")
                await asyncio.sleep(TORRENT_RESTART_S)
        finally:
            self._closed = True
            await self._end()
            self._lost("this node is stopping")

    async def _start(self, configure: Configure) -> asyncio.StreamReader:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "dreamer.daemon.torrent", str(theirs.fileno())),
                pass_fds=[theirs.fileno()],
                stdin=asyncio.subprocess.DEVNULL,
                env={**os.environ, **_FEW_ARENAS},
            )
        # Metadata of a large model comes in one frame.
        reader, writer = await asyncio.open_connection(sock=ours)
        for command in (configure, self._limits, *self._waiting):
            writer.write(encode(command))
        self._waiting.clear()
        self._writer = writer
        return reader

    def _take(self, event: FromTorrent) -> None:
        match event:
            case Listening(port):
                self.port = port
            case SettingsInForce(text):
                self._settings.pop(0).set_result(text)
            case TorrentFailed(torrent) | TorrentRemoved(torrent):
                self._tell(self._listeners.pop(torrent, None), event)
            case _:
                self._tell(self._listeners.get(event.torrent), event)

    def _tell(self, listener: OnEvent | None, event: TorrentEvent) -> None:
        try:
            if listener is not None:
                listener(event)
        except Exception:
            # One torrent's trouble must not end the others.
            log.exception("an event of torrent %d could not be handled", event.torrent)

    def _lost(self, why: str) -> None:
        self._waiting.clear()
        listeners, self._listeners = self._listeners, {}
        for number, listener in listeners.items():
            self._tell(listener, TorrentFailed(number, why))

    async def _end(self) -> None:
        writer, process = self._writer, self._process
        self._writer = self._process = None
        self.port = 0
        if writer is not None:
            writer.close()
        if process is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(TORRENT_EXIT_TIMEOUT_S):
                    await process.wait()
            if process.returncode is None:
                process.kill()
                await process.wait()
