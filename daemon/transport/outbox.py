"""The sending half of a bulk channel: blocks from disk, kept just ahead of the wire.

Only about two chunks wait in the channel at a time. A deeper queue would not be faster, and nothing
in it could be taken back; where aiortc's own association is in use, which sends the channels of a
link in the order they were filled, it would hold up control messages too.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter, OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from aiortc import RTCDataChannel

from dreamer.daemon.transport.vocabulary import ServeDone, ServeFailed, Span
from dreamer.protocol.limits import CHUNK_BYTES
from dreamer.protocol.link import bulk

QUEUED_CHUNKS = 2


def read_span(path: str, offset: int, length: int) -> bytes:
    """Return exactly ``length`` bytes of a stored file.

    Raises:
        OSError: the file is gone, or shorter than it was.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        data = os.pread(fd, length, offset)
    finally:
        os.close(fd)
    if len(data) != length:
        raise OSError(f"{path} is shorter than it was when it was verified")
    return data


@dataclass(frozen=True)
class Reading:
    """A block on its way from disk."""

    request: int
    span: Span
    data: asyncio.Future[bytes]


class Outbox:
    """Requests of one peer, served in the order they came."""

    def __init__(
        self,
        link: int,
        channel: RTCDataChannel,
        message_max_bytes: int,
        report: Callable[[ServeFailed | ServeDone], None],
        may_send: Callable[[], bool] = lambda: True,
    ) -> None:
        """``may_send`` is asked before each chunk; after a no, ``give_up`` is to be called."""
        self._link = link
        self._may_send = may_send
        self._channel = channel
        self._chunk = min(CHUNK_BYTES, message_max_bytes - bulk.HEADER.size)
        self._report = report
        self._requests: OrderedDict[int, OrderedDict[int, Span]] = OrderedDict()
        # Blocks of a request that were taken from its queue and not sent yet.
        self._under_way: Counter[int] = Counter()
        self._work = asyncio.Event()
        self._room = asyncio.Event()
        self.sent_bytes = 0
        channel.bufferedAmountLowThreshold = (QUEUED_CHUNKS - 1) * (self._chunk + bulk.HEADER.size)
        channel.on("bufferedamountlow", self._room.set)

    def serve(self, request: int, spans: list[Span]) -> None:
        """Queue a request."""
        self._requests[request] = OrderedDict((span[0], span) for span in spans)
        self._work.set()

    def stop(self, request: int, block: int) -> None:
        """Leave out a block, or with -1 the whole rest."""
        if block < 0:
            self._requests.get(request, OrderedDict()).clear()
        elif request in self._requests:
            self._requests[request].pop(block, None)
        self._end_if_done(request)

    def give_up(self) -> None:
        """Leave out all that is left of every request."""
        for request in list(self._requests):
            self.stop(request, -1)

    async def run(self) -> None:
        """Send until cancelled, reading one block ahead of the one on its way."""
        ahead: Reading | None = None
        while True:
            current = ahead or await self._next()
            ahead = self._pop()
            await self._send_block(current)
            self._under_way[current.request] -= 1
            self._end_if_done(current.request)

    async def _next(self) -> Reading:
        while (reading := self._pop()) is None:
            self._work.clear()
            await self._work.wait()
        return reading

    def _pop(self) -> Reading | None:
        """Begin to read the first block in the queue; None when there is none."""
        for request, spans in self._requests.items():
            if spans:
                _, span = spans.popitem(last=False)
                self._under_way[request] += 1
                return Reading(request, span, self._read(span))
        return None

    def _end_if_done(self, request: int) -> None:
        """Report a request of which nothing is left, neither in the queue nor under way."""
        if self._requests.get(request) or self._under_way[request] > 0:
            return
        del self._under_way[request]
        if self._requests.pop(request, None) is not None:
            self._report(ServeDone(self._link, request))

    def _read(self, span: Span) -> asyncio.Future[bytes]:
        _, path, offset, length = span
        future = asyncio.get_running_loop().run_in_executor(None, read_span, path, offset, length)
        # A failed read that nobody waits for any more must not be reported as never retrieved.
        future.add_done_callback(lambda done: done.cancelled() or done.exception())
        return future

    async def _send_block(self, reading: Reading) -> None:
        block, path, _, length = reading.span
        try:
            data = await reading.data
        except OSError as error:
            self._requests.pop(reading.request, None)
            self._report(ServeFailed(self._link, reading.request, path, str(error)))
            return
        for offset in range(0, length, self._chunk):
            payload = data[offset : offset + self._chunk]
            await self._wait_for_room()
            if not self._may_send():
                return
            self._channel.send(bulk.encode_header(reading.request, block, offset) + payload)
            self.sent_bytes += len(payload)

    async def _wait_for_room(self) -> None:
        limit = QUEUED_CHUNKS * (self._chunk + bulk.HEADER.size)
        while self._channel.bufferedAmount >= limit:
            self._room.clear()
            await self._room.wait()
