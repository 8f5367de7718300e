"""The transport process: takes the daemon's commands, runs the peer connections."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor

from dreamer.daemon.transport.connection import Connection, configuration
from dreamer.daemon.transport.vocabulary import (
    Answer,
    CloseLink,
    Expect,
    FromTransport,
    LinkClosed,
    Offer,
    SendControl,
    Serve,
    StopExpecting,
    StopServing,
    TakeAnswer,
    ToTransport,
    encode,
    read_command,
)

log = logging.getLogger(__name__)

TRAFFIC_INTERVAL_S = 0.25
WRITER_THREADS = 2


class TransportProcess:
    """All peer connections of one daemon."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer
        self._connections: dict[int, Connection] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._writers = ThreadPoolExecutor(WRITER_THREADS, "block-writer")

    async def run(self) -> None:
        """Serve until the daemon's end of the socket closes."""
        reporting = asyncio.create_task(self._report_traffic())
        while (command := await read_command(self._reader)) is not None:
            self._attempt(command)
        reporting.cancel()
        closing = [connection.close() for connection in self._connections.values()]
        # A connection that is stuck must not keep the process alive.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1.0):
                await asyncio.gather(*closing, return_exceptions=True)
        self._writers.shutdown(wait=True)

    def _emit(self, event: FromTransport) -> None:
        if isinstance(event, LinkClosed):
            self._close(event.link)
        if not self._writer.is_closing():
            self._writer.write(encode(event))

    async def _report_traffic(self) -> None:
        while True:
            await asyncio.sleep(TRAFFIC_INTERVAL_S)
            for connection in list(self._connections.values()):
                connection.report_traffic()

    def _attempt(self, command: ToTransport) -> None:
        try:
            self._perform(command)
        except Exception as error:
            # What a peer declares reaches deep into aiortc; it may cost that link, never the rest.
            log.exception("link %d failed", command.link)
            self._emit(LinkClosed(command.link, f"it can't be used: {error}", False))

    def _perform(self, command: ToTransport) -> None:
        match command:
            case Offer(link, ice_servers, relay_only, patient):
                connection = self._connect(link, ice_servers, relay_only)
                self._spawn(link, connection.offer(patient))
            case Answer(link, sdp, ice_servers, relay_only, patient):
                connection = self._connect(link, ice_servers, relay_only)
                self._spawn(link, connection.answer(sdp, patient))
            case CloseLink(link):
                self._close(link)
            case _:
                if found := self._connections.get(command.link):
                    self._use(found, command)

    def _use(self, connection: Connection, command: ToTransport) -> None:
        match command:
            case TakeAnswer(link, sdp):
                self._spawn(link, connection.take_answer(sdp))
            case SendControl(_, data):
                connection.send_control(data)
            case Expect(_, request, spans):
                connection.inbox.expect(request, spans)
            case StopExpecting(_, request, block):
                connection.inbox.stop(request, block)
            case Serve(_, request, spans) if connection.outbox:
                connection.outbox.serve(request, spans)
            case StopServing(_, request, block) if connection.outbox:
                connection.outbox.stop(request, block)

    def _connect(self, link: int, ice: list[dict[str, str]], relay_only: bool) -> Connection:
        connection = Connection(link, configuration(ice, relay_only), self._writers, self._emit)
        self._connections[link] = connection
        return connection

    def _close(self, link: int) -> None:
        if connection := self._connections.pop(link, None):
            connection.report_traffic()
            self._keep(asyncio.ensure_future(connection.close()))

    def _spawn(self, link: int, work: Coroutine[object, object, None]) -> None:
        async def guarded() -> None:
            try:
                await work
            except Exception as error:
                # A description that a peer made up can raise nearly anything in aiortc's parser.
                self._emit(LinkClosed(link, f"can't negotiate: {error}", False))

        self._keep(asyncio.ensure_future(guarded()))

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


async def _serve(fd: int) -> None:
    reader, writer = await asyncio.open_connection(sock=socket.socket(fileno=fd))
    try:
        await TransportProcess(reader, writer).run()
    finally:
        writer.close()


def main(fd: int) -> None:
    """Run the process on an inherited socket; it ends with the daemon, not with its signals."""
    logging.basicConfig(level=logging.WARNING, format="%(asctime)s transport %(message)s")
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        import uvloop
    except ImportError:  # not made for Windows
        asyncio.run(_serve(fd))
    else:
        uvloop.run(_serve(fd))
