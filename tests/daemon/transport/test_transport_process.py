"""Two real transport processes on loopback, driven as the daemon drives them.

Most tests share two, each with a link of its own: what they are forked from takes half a second to
import aiortc.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import psutil
import pytest
import pytest_asyncio
from blake3 import blake3

from dreamer.daemon.transport.client import Transport, process_count
from dreamer.daemon.transport.vocabulary import (
    REJECTED,
    VERIFIED,
    Answer,
    BlockDone,
    CloseLink,
    ControlReceived,
    Expect,
    FromTransport,
    LinkClosed,
    LinkOpened,
    LocalDescription,
    Offer,
    SendControl,
    Serve,
    ServeDone,
    ServeFailed,
    StopServing,
    TakeAnswer,
    VerifiedSpan,
)
from dreamer.protocol.limits import MIB

pytestmark = pytest.mark.asyncio(loop_scope="module")

BLOCKS = 6
Event = TypeVar("Event")


class End:
    """One daemon's side: its transport, its one link, and the events that came."""

    def __init__(self, processes: int = 1) -> None:
        self.transport = Transport(self._note, processes)
        self.begin()

    def begin(self) -> None:
        """Forget the links so far and whatever is still heard of them; the next one is new."""
        self.link = self._first = self.transport.new_link()
        self.events: asyncio.Queue[FromTransport] = asyncio.Queue()
        self.seen: list[FromTransport] = []

    def end(self) -> None:
        """Close the links of a test."""
        for link in range(self._first, self.transport.new_link()):
            self.transport.send(CloseLink(link))

    def _note(self, event: FromTransport) -> None:
        if event.link >= self._first:
            self.events.put_nowait(event)

    async def expect(self, kind: type[Event]) -> Event:
        async with asyncio.timeout(20):
            while True:
                event = await self.events.get()
                self.seen.append(event)
                if isinstance(event, kind):
                    return event
                gone = isinstance(event, LinkClosed) and event.link == self.link
                assert not gone, event


@asynccontextmanager
async def running(*ends: End) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(end.transport.run()) for end in ends]
    async with asyncio.timeout(20):
        for end in ends:
            await end.transport.ready.wait()
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task


async def link(a: End, b: End) -> tuple[LinkOpened, LinkOpened]:
    a.transport.send(Offer(a.link, [], False))
    offer = await a.expect(LocalDescription)
    b.transport.send(Answer(b.link, offer.sdp, [], False))
    answer = await b.expect(LocalDescription)
    a.transport.send(TakeAnswer(a.link, answer.sdp))
    return await a.expect(LinkOpened), await b.expect(LinkOpened)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def both() -> AsyncIterator[tuple[End, End]]:
    a, b = End(), End()
    async with running(a, b):
        yield a, b


@pytest_asyncio.fixture(loop_scope="module")
async def ends(both: tuple[End, End]) -> AsyncIterator[tuple[End, End]]:
    for end in both:
        end.begin()
    yield both
    for end in both:
        end.end()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source"
    path.write_bytes(os.urandom(BLOCKS * MIB - 12_345))
    return path


def spans(source: Path, target: Path) -> list[VerifiedSpan]:
    data = source.read_bytes()
    target.write_bytes(b"")
    return [
        (i, str(target), i * MIB, len(part), blake3(part).digest())
        for i in range(BLOCKS)
        if (part := data[i * MIB : (i + 1) * MIB])
    ]


async def test_blocks_arrive_verified_and_in_place(
    ends: tuple[End, End], source: Path, tmp_path: Path
) -> None:
    a, b = ends
    await link(a, b)
    wanted = spans(source, tmp_path / "target")
    b.transport.send(Expect(b.link, 7, wanted))
    a.transport.send(Serve(a.link, 7, [(i, str(source), at, n) for i, _, at, n, _ in wanted]))
    done = [await b.expect(BlockDone) for _ in range(BLOCKS)]
    assert {(d.request, d.block, d.verdict) for d in done} == {
        (7, i, VERIFIED) for i in range(BLOCKS)
    }
    assert (tmp_path / "target").read_bytes() == source.read_bytes()
    assert (await a.expect(ServeDone)).request == 7


async def test_patient_ends_link_though_the_answer_is_late(ends: tuple[End, End]) -> None:
    a, b = ends
    a.transport.send(Offer(a.link, [], False, patient=True))
    offer = await a.expect(LocalDescription)
    b.transport.send(Answer(b.link, offer.sdp, [], False, patient=True))
    answer = await b.expect(LocalDescription)
    # Other links come and go meanwhile.
    other = a.transport.new_link()
    a.transport.send(Offer(other, [], False))
    assert (await a.expect(LocalDescription)).link == other
    a.transport.send(CloseLink(other))
    a.transport.send(TakeAnswer(a.link, answer.sdp))
    await a.expect(LinkOpened)
    await b.expect(LinkOpened)


async def test_a_cancelled_request_ends_once(ends: tuple[End, End], source: Path) -> None:
    a, b = ends
    await link(a, b)
    a.transport.send(Serve(a.link, 5, [(i, str(source), i * MIB, MIB) for i in range(5)]))
    a.transport.send(StopServing(a.link, 5, -1))
    assert (await a.expect(ServeDone)).request == 5
    a.transport.send(Serve(a.link, 6, [(0, str(source), 0, MIB)]))
    assert (await a.expect(ServeDone)).request == 6


async def test_fingerprints_seen_by_the_two_ends_are_the_same_pair(ends: tuple[End, End]) -> None:
    a, b = await link(*ends)
    assert (a.ours, a.theirs) == (b.theirs, b.ours)
    assert len(a.ours) == 32
    assert a.ours != a.theirs


async def test_a_block_with_another_hash_is_rejected_and_not_written(
    ends: tuple[End, End], source: Path, tmp_path: Path
) -> None:
    a, b = ends
    await link(a, b)
    (_, path, at, length, _), *_ = spans(source, tmp_path / "target")
    b.transport.send(Expect(b.link, 1, [(0, path, at, length, b"\0" * 32)]))
    a.transport.send(Serve(a.link, 1, [(0, str(source), at, length)]))
    assert (await b.expect(BlockDone)).verdict == REJECTED
    assert (tmp_path / "target").read_bytes() == b""


async def test_a_source_file_cut_short_is_reported_and_the_link_stays(
    ends: tuple[End, End], source: Path
) -> None:
    a, b = ends
    await link(a, b)
    os.truncate(source, 10)
    a.transport.send(Serve(a.link, 3, [(0, str(source), 0, MIB)]))
    assert (await a.expect(ServeFailed)).request == 3
    assert not any(isinstance(event, ServeDone) for event in a.seen)
    a.transport.send(SendControl(a.link, b"still here"))
    assert (await b.expect(ControlReceived)).data == b"still here"


async def test_closing_one_end_closes_the_other(ends: tuple[End, End]) -> None:
    a, b = ends
    await link(a, b)
    a.transport.send(CloseLink(a.link))
    async with asyncio.timeout(20):
        while not isinstance(await b.events.get(), LinkClosed):
            pass


async def test_a_description_that_is_nonsense_closes_only_that_link(
    ends: tuple[End, End],
) -> None:
    a, b = ends
    spare = b.transport.new_link()
    b.transport.send(Answer(spare, "v=0\r\nnonsense", [], False))
    event = await b.events.get()
    assert isinstance(event, LinkClosed)
    assert event.link == spare
    await link(a, b)


async def test_a_killed_transport_process_is_replaced_and_its_links_reported(
    ends: tuple[End, End],
) -> None:
    a, b = ends
    await link(a, b)
    pid = a.transport.pid_of(a.link)
    assert pid is not None
    os.kill(pid, 9)
    async with asyncio.timeout(20):
        while not isinstance(event := await a.events.get(), LinkClosed):
            pass
    assert event.link == a.link
    # At once: whoever hears of the loss may link anew within the same turn.
    a.link, b.link = a.transport.new_link(), b.transport.new_link()
    await link(a, b)
    assert a.transport.pid_of(a.link) not in (None, pid)


async def test_a_peer_that_takes_only_tiny_messages_costs_its_own_link_alone(
    ends: tuple[End, End],
) -> None:
    a, b = ends
    a.transport.send(Offer(a.link, [], False))
    offer = await a.expect(LocalDescription)
    b.transport.send(Answer(b.link, offer.sdp, [], False))
    answer = await b.expect(LocalDescription)
    tiny = re.sub(r"max-message-size:\d+", "max-message-size:100", answer.sdp)
    assert tiny != answer.sdp
    a.transport.send(TakeAnswer(a.link, tiny))
    async with asyncio.timeout(20):
        while not isinstance(event := await a.events.get(), LinkClosed):
            pass
    assert "tiny" in event.reason
    a.link, b.link = a.transport.new_link(), b.transport.new_link()
    before = (a.transport.pids, b.transport.pids)
    await link(a, b)
    assert (a.transport.pids, b.transport.pids) == before


@pytest.mark.parametrize("declared", ["a=max-message-size:65536\r\n", ""], ids=["64 KiB", "none"])
async def test_blocks_go_in_messages_no_larger_than_the_peer_takes(
    ends: tuple[End, End], source: Path, tmp_path: Path, declared: str
) -> None:
    """A description without a size means 64 KiB (RFC 8841, 6.1); aiortc refuses to send more."""
    a, b = ends
    a.transport.send(Offer(a.link, [], False))
    offer = await a.expect(LocalDescription)
    b.transport.send(Answer(b.link, offer.sdp, [], False))
    answer = await b.expect(LocalDescription)
    small, changes = re.subn(r"a=max-message-size:\d+\r\n", declared, answer.sdp)
    assert changes == 1
    a.transport.send(TakeAnswer(a.link, small))
    await a.expect(LinkOpened)
    await b.expect(LinkOpened)
    wanted = spans(source, tmp_path / "target")
    b.transport.send(Expect(b.link, 7, wanted))
    a.transport.send(Serve(a.link, 7, [(i, str(source), at, n) for i, _, at, n, _ in wanted]))
    assert [(await b.expect(BlockDone)).verdict for _ in wanted] == [VERIFIED] * BLOCKS
    # One that is larger costs the link.
    a.transport.send(SendControl(a.link, b"\0" * (64 * 1024 + 1)))
    async with asyncio.timeout(20):
        while not isinstance(event := await a.events.get(), LinkClosed):
            pass
    assert "as large as ours" in event.reason


async def test_a_message_too_large_for_the_channel_costs_its_own_link_alone(
    ends: tuple[End, End],
) -> None:
    a, b = ends
    await link(a, b)
    before = a.transport.pids
    assert before
    a.transport.send(SendControl(a.link, b"\0" * (262_144 + 1)))
    async with asyncio.timeout(20):
        while not isinstance(await a.events.get(), LinkClosed):
            pass
    assert a.transport.pids == before


@dataclass
class Pair:
    """One link of many between two ends."""

    a: int
    b: int


async def link_again(a: End, b: End) -> Pair:
    a.link, b.link = a.transport.new_link(), b.transport.new_link()
    await link(a, b)
    return Pair(a.link, b.link)


async def test_links_are_spread_over_as_many_processes_as_may_be() -> None:
    a, b = End(processes=2), End()
    async with running(a, b):
        pairs = [await link_again(a, b) for _ in range(3)]
        homes = [a.transport.pid_of(pair.a) for pair in pairs]
        assert None not in homes
        assert homes[0] != homes[1]
        assert len(a.transport.pids) == 2
        assert len({b.transport.pid_of(pair.b) for pair in pairs}) == 1
        # A link that ends makes room where it was.
        a.transport.send(CloseLink(pairs[1].a))
        pair = await link_again(a, b)
        assert a.transport.pid_of(pair.a) == homes[1]


async def test_a_killed_process_takes_only_its_own_links_along() -> None:
    a, b = End(processes=2), End()
    async with running(a, b):
        lost, kept = [await link_again(a, b) for _ in range(2)]
        os.kill(a.transport.pid_of(lost.a), 9)
        async with asyncio.timeout(20):
            while not isinstance(event := await a.events.get(), LinkClosed):
                pass
        assert event.link == lost.a
        assert not event.fault
        a.transport.send(SendControl(kept.a, b"still here"))
        heard = await b.expect(ControlReceived)
        assert (heard.link, heard.data) == (kept.b, b"still here")


async def test_links_outlive_the_process_they_were_forked_from() -> None:
    a, b = End(processes=2), End()
    async with running(a, b):
        first = await link_again(a, b)
        (server,) = (
            child
            for child in psutil.Process().children()
            if a.transport.pid_of(first.a) in [each.pid for each in child.children()]
        )
        server.kill()
        async with asyncio.timeout(20):
            while a.transport.ready.is_set():
                await asyncio.sleep(0)
        # What is asked for meanwhile waits for the next one.
        second = await link_again(a, b)
        assert a.transport.pid_of(second.a) != a.transport.pid_of(first.a)
        a.transport.send(SendControl(first.a, b"still here"))
        assert (await b.expect(ControlReceived)).link == first.b


async def test_a_fork_server_that_dies_with_an_order_unread_ends_nothing_else() -> None:
    a, b = End(processes=2), End()
    async with running(a, b):
        first = await link_again(a, b)
        (server,) = (
            child
            for child in psutil.Process().children()
            if a.transport.pid_of(first.a) in [each.pid for each in child.children()]
        )
        # What it has not read makes the kernel reset the connection instead of ending it.
        server.suspend()
        a.transport.send(Offer(a.transport.new_link(), [], False))
        server.kill()
        async with asyncio.timeout(20):
            while a.transport.ready.is_set():
                await asyncio.sleep(0)
            await a.transport.ready.wait()
        a.transport.send(SendControl(first.a, b"still here"))
        assert (await b.expect(ControlReceived)).link == first.b


async def test_no_process_is_left_when_the_daemon_stops() -> None:
    a, b = End(processes=2), End()
    async with running(a, b):
        for _ in range(2):
            await link_again(a, b)
        processes = [psutil.Process(pid) for pid in a.transport.pids + b.transport.pids]
        assert len(processes) == 3
    # Their sockets are closed by now; the kernel may take a moment more.
    _, left = psutil.wait_procs(processes, timeout=10)
    assert not left


async def test_processes_are_one_for_each_core_unless_told_otherwise() -> None:
    assert process_count(3) == 3
    assert 1 <= process_count(0) <= min(4, os.cpu_count() or 1)
