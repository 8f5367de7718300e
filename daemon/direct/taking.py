"""The receiving half of a direct lane: what was asked for, and the threads that take it.

Each connection has a thread with one buffer: it receives a block, verifies it and writes it in its
place. Hashing, decryption, and the disk release the GIL. Nothing is written before its hash is
right, and nothing that was not asked for is read to its end.
"""

from __future__ import annotations

import threading
from collections import OrderedDict

from dreamer.daemon.direct.channel import Channel
from dreamer.daemon.direct.reports import BlockTaken, ChannelEnded, Reports
from dreamer.daemon.transport.inbox import verify_and_write
from dreamer.daemon.transport.vocabulary import VerifiedSpan
from dreamer.protocol.errors import RemoteProtocolError
from dreamer.protocol.limits import BLOCK_BYTES, DIRECT_VOID_REQUESTS_MAX
from dreamer.protocol.link.direct import HEADER


class Asked:
    """What one peer was asked for and has not sent yet. Its methods may be called in any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._spans: dict[int, dict[int, VerifiedSpan]] = {}
        # Taken back, but perhaps on its way: the last of these, or they would pile up.
        self._void: OrderedDict[int, set[int]] = OrderedDict()

    @property
    def busy(self) -> bool:
        """Whether anything is waited for."""
        return bool(self._spans)

    def expect(self, request: int, spans: list[VerifiedSpan]) -> None:
        """Wait for these blocks."""
        with self._lock:
            self._spans.setdefault(request, {}).update((span[0], span) for span in spans)

    def stop(self, request: int, block: int) -> None:
        """Wait no more for a block, or with -1 for any of the request."""
        with self._lock:
            spans = self._spans.get(request, {})
            stopped = list(spans) if block < 0 else [block] if block in spans else []
            for each in stopped:
                self._remove(request, each)
            if stopped:
                self._void.setdefault(request, set()).update(stopped)
                self._void.move_to_end(request)
            while len(self._void) > DIRECT_VOID_REQUESTS_MAX:
                self._void.popitem(last=False)

    def take(self, request: int, block: int, length: int) -> VerifiedSpan | None:
        """Return where a block that begins to arrive goes; None: it is to be thrown away.

        Raises:
            RemoteProtocolError: it was not asked for, came before, or has another length.
        """
        with self._lock:
            span = self._spans.get(request, {}).get(block)
            if span is not None and span[3] == length:
                self._remove(request, block)
                return span
            void = self._void.get(request, set())
            if span is None and block in void and length <= BLOCK_BYTES:
                void.discard(block)
                return None
        what = "of another length" if span is not None else "that was not asked for"
        raise RemoteProtocolError(f"it sends a block {what} over its direct connection")

    def _remove(self, request: int, block: int) -> None:
        spans = self._spans[request]
        del spans[block]
        if not spans:
            del self._spans[request]


class Taking:
    """Takes blocks of one peer over its connections (``links.link.Taker``)."""

    def __init__(self, reports: Reports) -> None:
        self._reports = reports
        self._asked = Asked()
        self.channels: list[Channel] = []
        self._ended_bytes = 0

    @property
    def busy(self) -> bool:
        """Whether anything is waited for."""
        return self._asked.busy

    @property
    def received_bytes(self) -> int:
        """Payload received so far, verified or not."""
        return self._ended_bytes + sum(channel.moved_bytes for channel in self.channels)

    def add(self, channel: Channel) -> None:
        """Take blocks over one connection more."""
        self.channels.append(channel)
        name = f"direct-take-{channel.attempt}"
        threading.Thread(target=self._run, args=(channel,), name=name, daemon=True).start()

    def remove(self, channel: Channel) -> None:
        """Count what a connection that has ended brought."""
        self.channels.remove(channel)
        self._ended_bytes += channel.moved_bytes

    def expect(self, request: int, spans: list[VerifiedSpan]) -> None:
        """Wait for blocks that are being asked for."""
        self._asked.expect(request, spans)

    def stop_expecting(self, request: int, block: int) -> None:
        """Wait no more for a block, or with -1 for any of the request."""
        self._asked.stop(request, block)

    def close(self) -> None:
        """End every connection."""
        for channel in self.channels:
            channel.hang_up()

    def _run(self, channel: Channel) -> None:
        reason, fault = "it closed its direct connection", False
        try:
            self._take_blocks(channel)
        except RemoteProtocolError as error:
            reason, fault = str(error), True
        except OSError as error:
            reason = f"the direct connection broke: {error}"
        if not self._reports.post(ChannelEnded(channel, reason, fault)):
            channel.close()

    def _take_blocks(self, channel: Channel) -> None:
        header = memoryview(bytearray(HEADER.size))
        buffer = memoryview(bytearray(BLOCK_BYTES))
        while channel.await_header(header, lambda: self._asked.busy):
            request, block, length = HEADER.unpack(header)
            span = self._asked.take(request, block, length)
            data = buffer[:length]
            channel.receive(data)
            if span is not None:
                verdict = verify_and_write(span, data)
                self._reports.post(BlockTaken(request, block, verdict))
