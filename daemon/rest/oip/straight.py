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
    HEAD_END,
    HEAD_MAX_BYTES,
    InferHead,
    may_begin_head,
    read_head,
)
from dreamer.protocol.errors import BusyError, DreamerError
from dreamer.protocol.inference_limits import (
    OIP_BODY_STALL_S,
    OIP_STRAIGHT_AHEAD_BYTES,
    OIP_STRAIGHT_BODY_MAX_BYTES,
    OIP_STRAIGHT_BUFFER_BYTES,
    OIP_STRAIGHT_IDLE_S,
    OIP_STRAIGHT_KEPT_BYTES,
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
        """End idle connections now, others once they have their answer or ``drain_s`` is over."""
        ending = list(self.connections)
        tasks = [task for one in ending if (task := one.finish()) is not None]
        if ending:
            # An answer that was given is not there yet: its end may wait for the client to read.
            await asyncio.wait([one.left for one in ending], timeout=drain_s)
        for one in list(self.connections):
            one.abort()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


class StraightConnection(asyncio.BufferedProtocol):
    """One client, whose requests are answered one after another.

    ``left`` is done once it is gone, or the framework's.
    """

    def __init__(self, server: StraightServer) -> None:
        self._server = server
        self._loop = asyncio.get_running_loop()
        self._buffer = bytearray(OIP_STRAIGHT_BUFFER_BYTES)
        self._got = 0
        self._head: InferHead | None = None
        self._body = self._end = 0
        self._held = server.oip.bodies.body()
        self._task: asyncio.Task[None] | None = None
        self._last = False
        self._wide = False
        self._drained = asyncio.Event()
        self._drained.set()
        self._looked_at = (0, self._loop.time())
        self._look_timer: asyncio.TimerHandle | None = None
        self._count = 0
        self.left: asyncio.Future[None] = self._loop.create_future()

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
        if self._task is not None and self._got == len(self._buffer):
            # A client that sends on and on before it was answered: asyncio takes no empty buffer.
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
        self._look_no_more()
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
            if not may_begin_head(bytes(self._buffer[: min(self._got, HEAD_MAX_BYTES)])):
                self._hand_over()
            return False
        body = end + len(HEAD_END)
        head = read_head(bytes(self._buffer[:body]))
        if head is None or head.body_bytes > OIP_STRAIGHT_BODY_MAX_BYTES:
            self._hand_over()
            return False
        end = body + head.body_bytes
        if end >= len(self._buffer) and not self._widen(end):
            self._hand_over()
            return False
        self._head, self._body, self._end = head, body, end
        return True

    def _widen(self, size: int) -> bool:
        """Make room for a request of this size; say whether the node has it to give."""
        try:
            # Before a byte of the body is here: whoever only announces one holds memory, too.
            self._held.grow(size)
        except BusyError:
            return False
        # What waits behind a request needs a place as well: asyncio takes no empty buffer.
        self._renew(size + OIP_STRAIGHT_AHEAD_BYTES, self._buffer[: self._got])
        return True

    async def _answer(self, head: InferHead) -> None:
        try:
            said = await self._said(head)
            try:
                await self._send(*said)
            except ConnectionError:
                self._transport.abort()
            self._next()
        except BaseException:
            # A client that is never answered would wait for ever.
            self._transport.abort()
            raise

    async def _said(self, head: InferHead) -> tuple[int, dict[str, str], Sequence[Data]]:
        """Return status, headers and body of the answer, whatever comes of the request."""
        try:
            return (200, *await self._answered(head))
        except DreamerError as error:
            return self._refused(failure_of(error, OPEN_INFERENCE), error_headers(error))
        except Exception:
            log.exception("POST %s failed by a bug of ours", head.path)
            return self._refused(BUG, {})

    async def _answered(self, head: InferHead) -> tuple[dict[str, str], list[Data]]:
        body = memoryview(self._buffer)[self._body : self._end]
        self._held.grow(len(body))
        asked = read_asked(head.model, head.version, body, head.header_length)
        answer = await self._server.oip.infer(asked.call, head.options)
        if answer.started.where != "local":
            # A peer that was asked in vain may still be sent it.
            self._renew(len(self._buffer), self._buffer[: self._got])
        return told(asked, answer)

    def _refused(
        self, failure: Failure, headers: dict[str, str]
    ) -> tuple[int, dict[str, str], Sequence[Data]]:
        # Somebody may still be at work on what was asked.
        self._renew(len(self._buffer), self._buffer[: self._got])
        told = {**headers, "Content-Type": "application/json; charset=utf-8"}
        return failure.status, told, [json.dumps(OPEN_INFERENCE.body(failure)).encode()]

    def _next(self) -> None:
        """Be ready for the next request; it may have come."""
        rest = self._got - self._end
        behind = self._buffer[self._end : self._got]
        if len(self._buffer) > OIP_STRAIGHT_KEPT_BYTES and rest < OIP_STRAIGHT_BUFFER_BYTES:
            self._renew(OIP_STRAIGHT_BUFFER_BYTES, behind)
        elif self._transport.get_write_buffer_size():
            # What waits there may be views of what was asked.
            self._renew(len(self._buffer), behind)
        else:
            self._buffer[:rest] = behind
        self._got, self._head, self._task = rest, None, None
        self._held.let_go()
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
        self._look_timer = self._loop.call_later(OIP_BODY_STALL_S, self._look)

    def _look_no_more(self) -> None:
        # The loop would keep this connection, and its buffer, until then.
        if self._look_timer is not None:
            self._look_timer.cancel()

    def _look(self) -> None:
        """Now and then: end a client that has said nothing for long, hand over half a request."""
        now, seen = self._loop.time(), self._count + self._got
        before, since = self._looked_at
        if self._task is not None or seen != before:
            self._looked_at = (seen, now)
        elif self._got:
            self._hand_over()
            return
        elif now - since >= OIP_STRAIGHT_IDLE_S:
            # It may not even have read its last answer, and closing would wait for that.
            self._transport.abort()
            return
        elif len(self._buffer) > OIP_STRAIGHT_BUFFER_BYTES:
            self._renew(OIP_STRAIGHT_BUFFER_BYTES, bytearray())
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
        self._look_no_more()
        self._held.let_go()
        if not self.left.done():
            self.left.set_result(None)


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
