"""Inferences on the Unix socket that take no web framework.

A small graph answers in less time than a framework takes to read a request, find its handler and
write the answer. So a connection whose requests are plain inferences (``heads``) is served here,
into and out of one buffer. With the first request that is anything else, is large, or stops
coming, the connection is the framework's for good, with every byte that it has not answered.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
from collections.abc import Sequence
from email.utils import formatdate
from functools import lru_cache
from http import HTTPStatus

from aiohttp import web

from dreamer.daemon.inference.tensors import Data
from dreamer.daemon.open_inference.serving import OpenInference
from dreamer.daemon.rest.dialects import BUG, OPEN_INFERENCE, Failure, error_headers, failure_of
from dreamer.daemon.rest.oip.answered import NARROW_BYTES, told, widen
from dreamer.daemon.rest.oip.asked import read_asked
from dreamer.daemon.rest.oip.heads import (
    HEAD_BEGINS,
    HEAD_END,
    HEAD_MAX_BYTES,
    InferHead,
    read_head,
)
from dreamer.protocol.errors import DreamerError
from dreamer.protocol.inference_limits import (
    OIP_BODY_STALL_S,
    OIP_STRAIGHT_BODY_MAX_BYTES,
    OIP_STRAIGHT_BUFFER_BYTES,
    OIP_STRAIGHT_IDLE_S,
    OIP_WHOLE_ANSWER_MAX_BYTES,
)
from dreamer.protocol.limits import KIB, MIB, REST_STALLED_CLIENT_TIMEOUT_S

log = logging.getLogger(__name__)

_JOINED_MAX_BYTES = 16 * KIB
"""Less than this is copied into one piece sooner than written from several."""
_PIECE_BYTES = MIB


class StraightServer:
    """Makes the connections of one listening socket; ``framework`` makes those of any other kind.

    ``close`` it at the end.
    """

    def __init__(self, oip: OpenInference, framework: web.Server) -> None:
        self.oip = oip
        self.framework = framework
        self.connections: set[StraightConnection] = set()

    def __call__(self) -> StraightConnection:
        """Return the protocol of a new connection."""
        return StraightConnection(self)

    async def close(self, drain_s: float) -> None:
        """End idle connections now, the others once they are answered or ``drain_s`` is over."""
        under_way = [task for one in list(self.connections) if (task := one.finish()) is not None]
        if under_way:
            _, late = await asyncio.wait(under_way, timeout=drain_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        for one in list(self.connections):
            one.abort()


class StraightConnection(asyncio.BufferedProtocol):
    """One client, whose requests are answered one after another."""

    def __init__(self, server: StraightServer) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._buffer = bytearray(OIP_STRAIGHT_BUFFER_BYTES)
        self._got = 0
        self._head: InferHead | None = None
        self._body = self._end = 0
        self._task: asyncio.Task[None] | None = None
        self._last = False
        self._wide = False
        self._drained = asyncio.Event()
        self._drained.set()
        self._looked_at = (0, 0.0)
        self._count = 0

    # What the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin."""
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._server.connections.add(self)
        self._look_later()

    def get_buffer(self, sizehint: int) -> memoryview:
        """Return where the next bytes go."""
        return memoryview(self._buffer)[self._got :]

    def buffer_updated(self, nbytes: int) -> None:
        """Take bytes that came."""
        self._got += nbytes
        if self._task is None:
            self._read()
        elif self._got == len(self._buffer):
            # A client that sends on and on before it was answered.
            self._transport.pause_reading()

    def pause_writing(self) -> None:
        """Note that the client reads slower than it is answered."""
        self._drained.clear()

    def resume_writing(self) -> None:
        """Note that it has read on."""
        self._drained.set()

    def connection_lost(self, exc: Exception | None) -> None:
        """End what nobody waits for any more."""
        self._leave()
        self._drained.set()
        if self._task is not None:
            self._task.cancel()

    # The end

    def finish(self) -> asyncio.Task[None] | None:
        """Answer no more than the request under way, which is returned."""
        self._last = True
        if self._task is None:
            self._transport.close()
        return self._task

    def abort(self) -> None:
        """End at once."""
        self._transport.abort()

    # Requests

    def _read(self) -> None:
        """Begin to answer if a request is whole, or leave it to the framework."""
        if self._head is None and not self._read_head():
            return
        if self._got >= self._end:
            assert self._head is not None
            self._count += 1
            self._task = self._loop.create_task(self._answer(self._head))

    def _read_head(self) -> bool:
        end = self._buffer.find(HEAD_END, 0, min(self._got, HEAD_MAX_BYTES))
        if end < 0:
            begins = self._buffer[: min(self._got, len(HEAD_BEGINS))]
            if self._got >= HEAD_MAX_BYTES or not HEAD_BEGINS.startswith(begins):
                self._hand_over()
            return False
        body = end + len(HEAD_END)
        head = read_head(bytes(self._buffer[:body]))
        if head is None or head.body_bytes > OIP_STRAIGHT_BODY_MAX_BYTES:
            self._hand_over()
            return False
        self._head, self._body, self._end = head, body, body + head.body_bytes
        if self._end > len(self._buffer):
            self._renew(self._end, self._buffer[: self._got])
        return True

    async def _answer(self, head: InferHead) -> None:
        try:
            headers, parts = await self._answered(head)
            await self._send(200, headers, parts)
        except DreamerError as error:
            await self._refuse(failure_of(error, OPEN_INFERENCE), error_headers(error))
        except ConnectionError:
            self._transport.abort()
        except Exception:
            log.exception("POST %s failed by a bug of ours", head.path)
            await self._refuse(BUG, {})
        self._next()

    async def _answered(self, head: InferHead) -> tuple[dict[str, str], list[Data]]:
        oip = self._server.oip
        body = memoryview(self._buffer)[self._body : self._end]
        with oip.bodies.body() as held:
            held.grow(len(body))
            asked = read_asked(head.model, head.version, body, head.header_length)
            answer = await oip.infer(asked.call, head.options)
            if answer.started.where != "local":
                # A peer that was asked in vain may still be sent it.
                self._renew(len(self._buffer), self._buffer[: self._got])
            return told(asked, answer)

    async def _refuse(self, failure: Failure, headers: dict[str, str]) -> None:
        # Somebody may still be at work on what was asked.
        self._renew(len(self._buffer), self._buffer[: self._got])
        body = json.dumps(OPEN_INFERENCE.body(failure)).encode()
        told = {**headers, "Content-Type": "application/json; charset=utf-8"}
        try:
            await self._send(failure.status, told, [body])
        except ConnectionError:
            self._transport.abort()

    def _next(self) -> None:
        """Be ready for the next request; it may have come."""
        if self._transport.get_write_buffer_size():
            # What waits there may be views of what was asked.
            self._renew(len(self._buffer), self._buffer[: self._got])
        rest = self._got - self._end
        if rest:
            self._buffer[:rest] = self._buffer[self._end : self._got]
        self._got, self._head, self._task = rest, None, None
        if self._last:
            self._transport.close()
        elif rest and not self._transport.is_closing():
            self._transport.resume_reading()
            self._read()

    def _renew(self, size: int, kept: bytearray) -> None:
        """Read on into another buffer: this one's bytes stay with whoever has them."""
        buffer = bytearray(size)
        buffer[: len(kept)] = kept
        self._buffer = buffer

    # Answers

    async def _send(self, status: int, headers: dict[str, str], parts: Sequence[Data]) -> None:
        """Send an answer.

        Raises:
            ConnectionError: the client is gone, or reads nothing.
        """
        views = [memoryview(part).cast("B") for part in parts]
        size = sum(map(len, views))
        head = _head(status, size, headers)
        if size <= _JOINED_MAX_BYTES:
            self._transport.write(b"".join((head, *views)))
        else:
            if size > NARROW_BYTES and not self._wide:
                self._wide = True
                widen(self._transport)
            await self._send_views([memoryview(head), *views], size)
        if not self._drained.is_set():
            await self._until_drained()

    async def _send_views(self, views: list[memoryview], size: int) -> None:
        sent = self._write_now(views) if size <= OIP_WHOLE_ANSWER_MAX_BYTES else 0
        for view in views:
            skipped, sent = min(sent, len(view)), max(0, sent - len(view))
            for place in range(skipped, len(view), _PIECE_BYTES):
                self._transport.write(view[place : place + _PIECE_BYTES])
                if not self._drained.is_set():
                    await self._until_drained()

    def _write_now(self, views: list[memoryview]) -> int:
        """Write what the socket takes of them without a copy; return how many bytes that was."""
        end = self._transport.get_extra_info("socket")
        if end is None or self._transport.get_write_buffer_size():
            return 0
        try:
            return os.writev(end.fileno(), views)
        except OSError:
            # The transport finds out the same, and knows what to do.
            return 0

    async def _until_drained(self) -> None:
        try:
            async with asyncio.timeout(REST_STALLED_CLIENT_TIMEOUT_S):
                await self._drained.wait()
        except TimeoutError:
            raise ConnectionAbortedError("the client reads nothing") from None
        if self._transport.is_closing():
            raise ConnectionResetError("the client is gone")

    # Those that say nothing, or something else

    def _look_later(self) -> None:
        self._loop.call_later(OIP_BODY_STALL_S, self._look)

    def _look(self) -> None:
        """Now and then: end a client that has said nothing for long, hand over half a request."""
        if self not in self._server.connections:
            return
        now, seen = self._loop.time(), self._count + self._got
        before, since = self._looked_at
        if self._task is not None or seen != before:
            self._looked_at = (seen, now)
        elif self._got:
            self._hand_over()
            return
        elif now - since >= OIP_STRAIGHT_IDLE_S:
            self._transport.close()
            return
        self._look_later()

    def _hand_over(self) -> None:
        """Have the framework go on with this connection."""
        self._leave()
        protocol = self._server.framework()
        self._transport.set_protocol(protocol)
        protocol.connection_made(self._transport)
        protocol.data_received(bytes(memoryview(self._buffer)[: self._got]))

    def _leave(self) -> None:
        self._server.connections.discard(self)


def _head(status: int, size: int, headers: dict[str, str]) -> bytes:
    told = {**headers, "Content-Length": size, "Date": _date(int(time.time()))}
    lines = [f"{name}: {value}\r\n" for name, value in told.items()]
    return "".join((_line(status), *lines, "\r\n")).encode()


@lru_cache
def _line(status: int) -> str:
    return f"HTTP/1.1 {status} {HTTPStatus(status).phrase}\r\n"


@lru_cache(1)
def _date(second: int) -> str:
    return formatdate(second, usegmt=True)
