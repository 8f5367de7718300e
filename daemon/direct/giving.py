"""The sending half of a direct lane: requests of one peer, served by a thread per connection.

Each thread reads the next block into its one buffer, behind the header, and sends both at once.
Any connection may take any block, so that one which is slow holds up no other.
"""

from __future__ import annotations

import os
import threading
from collections import Counter, OrderedDict, deque

from dreamer.daemon.direct.channel import Channel
from dreamer.daemon.direct.reports import ChannelEnded, Reports, Served
from dreamer.daemon.transport.vocabulary import ServeFailed, Span
from dreamer.protocol.limits import BLOCK_BYTES
from dreamer.protocol.link.direct import HEADER


class Queue:
    """The blocks that a peer asked for, in order. Its methods may be called in any thread."""

    def __init__(self, link: int, reports: Reports) -> None:
        self._link = link
        self._reports = reports
        self._changed = threading.Condition()
        self._requests: OrderedDict[int, deque[Span]] = OrderedDict()
        # Blocks of a request that a thread has taken and not sent yet.
        self._under_way: Counter[int] = Counter()
        self._closed = False

    def put(self, request: int, spans: list[Span]) -> None:
        """Add blocks to a request."""
        with self._changed:
            self._requests.setdefault(request, deque()).extend(spans)
            self._changed.notify_all()

    def stop(self, request: int, block: int) -> None:
        """Leave out a block, or with -1 all that is left."""
        with self._changed:
            spans = self._requests.get(request)
            if spans is not None:
                kept = [span for span in spans if block >= 0 and span[0] != block]
                spans.clear()
                spans.extend(kept)
                self._end_if_done(request)

    def close(self) -> None:
        """Let every thread end; what was not sent is over."""
        with self._changed:
            self._closed = True
            for request in self._requests:
                self._reports.post(Served(request, None))
            self._requests.clear()
            self._changed.notify_all()

    def take(self, retired: threading.Event) -> tuple[int, Span] | None:
        """Return the next block and its request once there is one; None when all is over.

        ``retired`` is set, and ``wake`` called, to end one thread only.
        """
        with self._changed:
            while not self._closed and not retired.is_set():
                for request, spans in self._requests.items():
                    if spans:
                        self._under_way[request] += 1
                        return request, spans.popleft()
                self._changed.wait()
        return None

    def wake(self) -> None:
        """Have the threads look whether they are to end."""
        with self._changed:
            self._changed.notify_all()

    def sent(self, request: int) -> None:
        """Note that a block that was taken is on its way."""
        with self._changed:
            self._under_way[request] -= 1
            self._end_if_done(request)

    def failed(self, request: int, path: str, reason: str) -> None:
        """Give up the rest of a request, for a block of it can't be read."""
        with self._changed:
            self._under_way[request] -= 1
            if self._requests.pop(request, None) is not None:
                failed = ServeFailed(self._link, request, path, reason)
                self._reports.post(Served(request, failed))

    def _end_if_done(self, request: int) -> None:
        if self._under_way[request] > 0:
            return
        del self._under_way[request]
        if request in self._requests and not self._requests[request]:
            del self._requests[request]
            self._reports.post(Served(request, None))


class Giving:
    """Gives blocks to one peer over its connections (``links.link.Giver``)."""

    def __init__(self, link: int, reports: Reports) -> None:
        self._reports = reports
        self._queue = Queue(link, reports)
        self._retired: dict[Channel, threading.Event] = {}
        self._ended_bytes = 0

    @property
    def channels(self) -> list[Channel]:
        """The connections."""
        return list(self._retired)

    @property
    def sent_bytes(self) -> int:
        """Payload sent so far, with the headers."""
        return self._ended_bytes + sum(channel.moved_bytes for channel in self._retired)

    def add(self, channel: Channel) -> None:
        """Give blocks over one connection more."""
        retired = self._retired[channel] = threading.Event()
        name = f"direct-give-{channel.attempt}"
        threading.Thread(target=self._run, args=(channel, retired), name=name, daemon=True).start()

    def retire(self, attempt: int) -> None:
        """Send no more over a connection; it is closed behind the block on its way."""
        for channel, retired in self._retired.items():
            if channel.attempt == attempt:
                retired.set()
        self._queue.wake()

    def remove(self, channel: Channel) -> bool:
        """Count what a connection that has ended took; return whether it was retired."""
        self._ended_bytes += channel.moved_bytes
        return self._retired.pop(channel).is_set()

    def serve(self, request: int, spans: list[Span]) -> None:
        """Send blocks from disk."""
        self._queue.put(request, spans)

    def stop_serving(self, request: int, block: int) -> None:
        """Leave out a block of a request, or with -1 all that is left."""
        self._queue.stop(request, block)

    def close(self) -> None:
        """End every connection."""
        self._queue.close()
        for channel in self._retired:
            channel.hang_up()

    def _run(self, channel: Channel, retired: threading.Event) -> None:
        reason = "it is not needed any more"
        try:
            self._send_blocks(channel, retired)
        except OSError as error:
            reason = f"the direct connection broke: {error}"
        if not self._reports.post(ChannelEnded(channel, reason, False)):
            channel.close()

    def _send_blocks(self, channel: Channel, retired: threading.Event) -> None:
        frame = memoryview(bytearray(HEADER.size + BLOCK_BYTES))
        while (taken := self._queue.take(retired)) is not None:
            request, (block, path, offset, length) = taken
            HEADER.pack_into(frame, 0, request, block, length)
            whole = frame[: HEADER.size + length]
            try:
                read_into(path, offset, whole[HEADER.size :])
            except OSError as error:
                self._queue.failed(request, path, str(error))
                continue
            try:
                channel.send(whole)
            finally:
                # Also when the connection broke: others may stand, and the request must end.
                self._queue.sent(request)


def read_into(path: str, offset: int, data: memoryview) -> None:
    """Fill ``data`` from a stored file.

    Raises:
        OSError: the file is gone, or shorter than it was.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        count = os.preadv(fd, [data], offset)
    finally:
        os.close(fd)
    if count != len(data):
        raise OSError(f"{path} is shorter than it was when it was verified")
