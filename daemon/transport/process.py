"""One transport process: takes the daemon's commands, runs the peer connections given to it."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor

from dreamer.daemon.child_messages import encode
from dreamer.daemon.transport.connection import Connection, configuration
from dreamer.daemon.transport.turn_servers import turn_servers
from dreamer.daemon.transport.vocabulary import (
    AllowBulk,
    Answer,
    CloseLink,
    Expect,
    FromTransport,
    LinkClosed,
    Offer,
    RenewTurn,
    SendControl,
    Serve,
    StopExpecting,
    StopServing,
    TakeAnswer,
    ToTransport,
    read_command,
)

log = logging.getLogger(__name__)

TRAFFIC_INTERVAL_S = 0.25
WRITER_THREADS = 2


class TransportProcess:
    """The peer connections of one transport process."""

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
            case Offer(link):
                connection = self._connect(command)
                self._spawn(link, connection.offer(command.patient))
            case Answer(link, sdp):
                connection = self._connect(command)
                self._spawn(link, connection.answer(sdp, command.patient))
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
            case AllowBulk(_, relayed_bytes):
                connection.allow_bulk(relayed_bytes)
            case RenewTurn(_, ice_servers):
                connection.renew_turn(ice_servers)

    def _connect(self, wanted: Offer | Answer) -> Connection:
        connection = Connection(
            wanted.link,
            configuration(wanted.ice_servers, wanted.relay_only),
            self._writers,
            self._emit,
            turn_servers(wanted.ice_servers),
            wanted.relays,
        )
        self._connections[wanted.link] = connection
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


def run(fd: int) -> None:
    """Serve on an inherited socket until the daemon's end of it closes."""
    try:
        import uvloop
    except ImportError:  # not made for Windows
        asyncio.run(_serve(fd))
    else:
        uvloop.run(_serve(fd))
