"""What the sending half of a bulk channel keeps ahead of the wire, and when it says it is done."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from dreamer.daemon.transport.outbox import QUEUED_CHUNKS, Outbox
from dreamer.daemon.transport.vocabulary import ServeDone, ServeFailed
from dreamer.protocol.limits import CHUNK_BYTES, MIB
from dreamer.protocol.link import bulk

DEADLINE_S = 20.0
MESSAGE_BYTES = CHUNK_BYTES + bulk.HEADER.size


class SlowChannel:
    """A data channel as aiortc's, whose wire takes a message when it is told to."""

    def __init__(self) -> None:
        self.bufferedAmountLowThreshold = 0
        self.waiting: list[bytes] = []
        self.taken: list[bytes] = []
        self.sent = asyncio.Event()
        self._low: Callable[[], None] | None = None

    @property
    def bufferedAmount(self) -> int:  # noqa: N802 - the name that WebRTC gives it
        return sum(map(len, self.waiting))

    def on(self, event: str, call: Callable[[], None]) -> None:
        assert event == "bufferedamountlow"
        self._low = call

    def send(self, data: bytes) -> None:
        self.waiting.append(data)
        self.sent.set()

    def take(self) -> None:
        """Let the wire have the first message that waits."""
        before = self.bufferedAmount
        self.taken.append(self.waiting.pop(0))
        if before > self.bufferedAmountLowThreshold >= self.bufferedAmount:
            self._low()

    async def drained(self, messages: int) -> None:
        """Take messages as they come until so many have passed."""
        async with asyncio.timeout(DEADLINE_S):
            while len(self.taken) < messages:
                self.sent.clear()
                while self.waiting:
                    self.take()
                if len(self.taken) < messages:
                    await self.sent.wait()


class Sender:
    """An outbox on a slow channel, and its reports."""

    def __init__(self) -> None:
        self.channel = SlowChannel()
        self.reports: asyncio.Queue[ServeDone | ServeFailed] = asyncio.Queue()
        self.outbox = Outbox(1, self.channel, MESSAGE_BYTES, self.reports.put_nowait)

    async def report(self) -> ServeDone | ServeFailed:
        async with asyncio.timeout(DEADLINE_S):
            return await self.reports.get()


@pytest.fixture
async def sender() -> AsyncIterator[Sender]:
    made = Sender()
    running = asyncio.create_task(made.outbox.run())
    yield made
    running.cancel()
    await asyncio.wait([running])


@pytest.fixture
def source(tmp_path: Path) -> str:
    path = tmp_path / "source"
    path.write_bytes(bytes(4 * MIB))
    return str(path)


async def test_no_more_waits_in_the_channel_than_two_chunks(sender, source) -> None:
    sender.outbox.serve(1, [(i, source, i * MIB, MIB) for i in range(4)])
    channel, most = sender.channel, 0
    async with asyncio.timeout(DEADLINE_S):
        while len(channel.taken) < 4 * MIB // CHUNK_BYTES:
            channel.sent.clear()
            if not channel.waiting:
                await channel.sent.wait()
            # However long the wire takes, nothing is added.
            for _ in range(20):
                await asyncio.sleep(0)
            most = max(most, len(channel.waiting))
            channel.take()
    assert most == QUEUED_CHUNKS
    assert (await sender.report()).request == 1


async def test_a_request_that_has_ended_may_be_served_again(sender, source) -> None:
    for _ in range(2):
        sender.outbox.serve(7, [(0, source, 0, MIB)])
        await sender.channel.drained(MIB // CHUNK_BYTES)
        assert await sender.report() == ServeDone(1, 7)
        sender.channel.taken.clear()
    assert sender.reports.empty()


async def test_what_is_stopped_while_it_waits_is_reported_once(sender, source) -> None:
    sender.outbox.serve(7, [(i, source, i * MIB, MIB) for i in range(4)])
    sender.outbox.stop(7, -1)
    sender.outbox.stop(7, -1)
    assert await sender.report() == ServeDone(1, 7)
    assert sender.reports.empty()
