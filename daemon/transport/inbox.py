"""The receiving half of a bulk channel: chunks become blocks, blocks are verified, then written.

Nothing is written before its hash is right. Memory is bounded by the blocks that may be half
here at once; a peer that opens more than ``OPEN_BLOCKS_MAX`` breaks the protocol.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

from blake3 import blake3

from dreamer.daemon.transport.vocabulary import REJECTED, VERIFIED, BlockDone, VerifiedSpan
from dreamer.protocol.errors import RemoteProtocolError
from dreamer.protocol.link import bulk

OPEN_BLOCKS_MAX = 16

FRAMES_PER_BLOCK_MAX = 32
"""A link whose messages are as small as a link may have makes 17 of a block."""


@dataclass
class Assembly:
    """A block of which some chunks are here."""

    span: VerifiedSpan
    data: bytearray
    offsets: set[int] = field(default_factory=set)
    received: int = 0


def verify_and_write(span: VerifiedSpan, data: bytearray | memoryview) -> str:
    """Write a block in its place if its hash is right; return the verdict."""
    _, path, offset, _, digest = span
    if blake3(data).digest() != digest:
        return REJECTED
    try:
        fd = os.open(path, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        try:
            written = os.pwrite(fd, data, offset)
        finally:
            os.close(fd)
    except OSError as error:
        return f"can't write to {path}: {error.strerror}"
    return VERIFIED if written == len(data) else f"can't write to {path}: the disk is full"


class Inbox:
    """What one peer was asked for and has not sent yet."""

    def __init__(
        self, link: int, writers: ThreadPoolExecutor, done: Callable[[BlockDone], None]
    ) -> None:
        self._link = link
        self._writers = writers
        self._done = done
        self._expected: dict[tuple[int, int], VerifiedSpan] = {}
        self._open: dict[tuple[int, int], Assembly] = {}
        self._writing: set[asyncio.Future[str]] = set()
        self.received_bytes = 0

    def expect(self, request: int, spans: list[VerifiedSpan]) -> None:
        """Take these blocks when they come."""
        for span in spans:
            self._expected[request, span[0]] = span

    def stop(self, request: int, block: int) -> None:
        """Throw away what comes of a block, or with -1 of the whole request."""
        keys = [(request, block)]
        if block < 0:
            keys = [key for key in self._expected if key[0] == request]
        for key in keys:
            self._expected.pop(key, None)
            self._open.pop(key, None)

    def give_up(self) -> None:
        """Throw away what comes of every request."""
        self._expected.clear()
        self._open.clear()

    def receive(self, data: bytes) -> None:
        """Take a frame of the bulk channel.

        Raises:
            RemoteProtocolError: malformed, repeated, outside its block, or too many at once.
        """
        frame = bulk.decode(data)
        span = self._expected.get((frame.request, frame.block))
        if span is None:
            # It was cancelled while on its way; what nobody asked for is no proof of life.
            return
        self.received_bytes += len(frame.payload)
        assembly = self._assembly((frame.request, frame.block), span)
        if frame.offset in assembly.offsets or frame.offset + len(frame.payload) > span[3]:
            raise RemoteProtocolError("a bulk frame that is repeated or reaches past its block")
        assembly.offsets.add(frame.offset)
        if len(assembly.offsets) > FRAMES_PER_BLOCK_MAX:
            raise RemoteProtocolError("a block in too many pieces")
        assembly.data[frame.offset : frame.offset + len(frame.payload)] = frame.payload
        assembly.received += len(frame.payload)
        if assembly.received >= span[3]:
            self._finish(frame.request, assembly)

    def _assembly(self, key: tuple[int, int], span: VerifiedSpan) -> Assembly:
        assembly = self._open.get(key)
        if assembly is None:
            if len(self._open) >= OPEN_BLOCKS_MAX:
                raise RemoteProtocolError("too many blocks begun and not ended")
            assembly = self._open[key] = Assembly(span, bytearray(span[3]))
        return assembly

    def _finish(self, request: int, assembly: Assembly) -> None:
        block = assembly.span[0]
        del self._open[request, block]
        del self._expected[request, block]
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._writers, verify_and_write, assembly.span, assembly.data)
        self._writing.add(future)

        def report(written: asyncio.Future[str]) -> None:
            self._writing.discard(written)
            if not written.cancelled():
                self._done(BlockDone(self._link, request, block, written.result()))

        future.add_done_callback(report)
