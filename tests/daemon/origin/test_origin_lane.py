"""The origin as a source of a pull: requests in pieces, side by side, and how they fail."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

from dreamer.daemon.sharing.origin_lane import ORIGIN, OriginLane
from dreamer.daemon.store.download import Download
from dreamer.daemon.tasks import TaskSet
from dreamer.protocol.errors import DreamerError, LocalError
from dreamer.protocol.limits import (
    BLOCK_BYTES,
    ORIGIN_ATTEMPTS,
    ORIGIN_PARALLEL_REQUESTS,
    ORIGIN_PIECE_MIN_BLOCKS,
)
from dreamer.protocol.swarm.bitfield import span
from dreamer.protocol.swarm.vocabulary import (
    BlockRejected,
    BlockVerified,
    BytesArrived,
    Cancel,
    Event,
    Fetch,
    RequestRefused,
    SourceLacks,
    SourceLost,
)

PATIENCE_S = 20.0


class Lane:
    """A lane, and the blocks of the largest file still to come, as the planner counts them."""

    def __init__(self, origin: Any, download: Download, blocks: range) -> None:
        self.blocks = blocks
        self.open: dict[int, set[int]] = {}
        self.events: list[Event] = []
        self.errors: list[DreamerError] = []
        self.tasks = TaskSet()
        self.lane = OriginLane(
            *(origin, download, lambda _, request: bool(self.open.get(request))),
            *(self.feed, self.errors.append, self.tasks),
        )

    def feed(self, event: Event) -> None:
        self.events.append(event)
        match event:
            case BlockVerified(_, request, block) | BlockRejected(_, request, block):
                self.open.get(request, set()).discard(block)
            case RequestRefused(_, request):
                self.open.pop(request, None)

    def ask(self, request: int, blocks: range) -> None:
        self.open[request] = set(blocks)
        self.lane.fetch(Fetch(ORIGIN, request, blocks.start, len(blocks)))

    def of(self, kind: type) -> list[Any]:
        return [event for event in self.events if isinstance(event, kind)]

    async def until(self, happened: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while not happened():
                await asyncio.sleep(0.005)


@pytest.fixture
async def lane(bad_origin: Any, misbehaviour: Any, puller: Any) -> AsyncIterator[Lane]:
    index = next(i for i, e in enumerate(puller.manifest.files) if e.path == "large")
    misbehaviour.content = (
        b"".join(bytes([number]) * BLOCK_BYTES for number in range(16)) + b"and a tail"
    )
    with puller.open() as download:
        made = Lane(bad_origin, download, puller.manifest.layout.blocks_of_file(index))
        yield made
        made.lane.close()
        misbehaviour.awake.set()
        await made.tasks.close()


async def test_request_is_got_in_pieces_side_by_side(lane: Lane, misbehaviour: Any) -> None:
    lane.ask(1, lane.blocks)
    await lane.until(lambda: not lane.open[1])
    assert sorted(event.block for event in lane.of(BlockVerified)) == list(lane.blocks)
    pieces = -(-len(lane.blocks) // max(ORIGIN_PIECE_MIN_BLOCKS, len(lane.blocks) // 4 + 1))
    assert len(misbehaviour.requests) == pieces > 1
    assert 1 <= misbehaviour.most_open <= ORIGIN_PARALLEL_REQUESTS
    assert sum(event.size_bytes for event in lane.of(BytesArrived)) == len(misbehaviour.content)
    assert lane.errors == []


async def test_no_more_run_at_a_time_than_the_width_says(lane: Lane, misbehaviour: Any) -> None:
    misbehaviour.script = ["hang:0"] * 30
    for request, block in enumerate(lane.blocks):
        lane.ask(request, range(block, block + 1))
    await lane.until(lambda: misbehaviour.open == ORIGIN_PARALLEL_REQUESTS)
    assert misbehaviour.most_open == ORIGIN_PARALLEL_REQUESTS
    misbehaviour.script.clear()
    misbehaviour.awake.set()
    await lane.until(lambda: not any(lane.open.values()))
    assert len(lane.of(BlockVerified)) == len(lane.blocks)


async def test_piece_that_is_refused_ends_its_request_once(lane: Lane, misbehaviour: Any) -> None:
    misbehaviour.script = ["other"] * 8
    lane.ask(1, lane.blocks)
    await lane.until(lambda: bool(lane.of(RequestRefused)))
    await lane.until(lambda: misbehaviour.open == 0)
    assert lane.of(RequestRefused) == [RequestRefused(ORIGIN, 1, False)]
    assert lane.of(SourceLost) == []
    assert "other bytes" in (lane.lane.last_error or "")


async def test_file_that_is_missing_is_told_with_all_its_blocks(
    lane: Lane, misbehaviour: Any
) -> None:
    misbehaviour.script = ["404"]
    lane.ask(1, lane.blocks[:2])
    await lane.until(lambda: bool(lane.of(SourceLacks)))
    assert lane.of(SourceLacks) == [SourceLacks(ORIGIN, span(lane.blocks.start, len(lane.blocks)))]
    assert lane.of(RequestRefused) == lane.of(SourceLost) == []
    assert "not there" in (lane.lane.last_error or "")


async def test_file_that_is_too_short_is_told_with_the_blocks_behind_its_end(
    lane: Lane, misbehaviour: Any
) -> None:
    misbehaviour.script = ["416"]
    lane.ask(1, lane.blocks[2:3])
    await lane.until(lambda: bool(lane.of(SourceLacks)))
    assert lane.of(SourceLacks) == [SourceLacks(ORIGIN, span(lane.blocks[2], 1))]
    assert "shorter" in (lane.lane.last_error or "")


async def test_origin_that_refuses_us_is_left_alone(lane: Lane, misbehaviour: Any) -> None:
    misbehaviour.script = ["403"] * 20
    lane.ask(1, lane.blocks[:2])
    await lane.until(lambda: bool(lane.of(SourceLost)))
    assert lane.of(RequestRefused) == [RequestRefused(ORIGIN, 1, False)]


async def test_origin_that_stays_busy_is_tried_several_times(lane: Lane, misbehaviour: Any) -> None:
    misbehaviour.script = ["503"] * ORIGIN_ATTEMPTS
    lane.ask(1, lane.blocks[:1])
    await lane.until(lambda: bool(lane.of(RequestRefused)))
    assert len(misbehaviour.requests) == ORIGIN_ATTEMPTS
    assert lane.of(SourceLost) == []
    lane.ask(2, lane.blocks[:1])
    await lane.until(lambda: bool(lane.of(BlockVerified)))


async def test_damaged_copy_is_told_block_by_block(lane: Lane, misbehaviour: Any) -> None:
    misbehaviour.script = ["wrong"]
    lane.ask(1, lane.blocks[1:3])
    await lane.until(lambda: not lane.open[1])
    assert [event.block for event in lane.of(BlockRejected)] == list(lane.blocks[1:3])
    assert lane.of(BlockVerified) == []


async def test_request_that_nobody_needs_any_more_ends(lane: Lane, misbehaviour: Any) -> None:
    misbehaviour.script = ["hang:1000"] * 20
    lane.ask(1, lane.blocks)
    await lane.until(lambda: misbehaviour.open == ORIGIN_PARALLEL_REQUESTS)
    lane.lane.cancel(Cancel(ORIGIN, 1, lane.blocks[0]))
    assert lane.lane._pieces, "a block is still wanted"
    lane.open.pop(1)
    lane.lane.cancel(Cancel(ORIGIN, 1, None))
    assert not lane.lane._pieces
    asked = len(misbehaviour.requests)
    misbehaviour.script.clear()
    misbehaviour.awake.set()
    # What hung is not taken up again, and another request is not behind it.
    lane.ask(2, lane.blocks[:1])
    await lane.until(lambda: not lane.open[2])
    assert len(misbehaviour.requests) == asked + 1


async def test_part_of_a_request_that_others_bring_is_not_got(
    lane: Lane, misbehaviour: Any
) -> None:
    misbehaviour.script = ["hang:0"] * ORIGIN_PARALLEL_REQUESTS
    lane.ask(1, lane.blocks)
    await lane.until(lambda: misbehaviour.open == ORIGIN_PARALLEL_REQUESTS)
    running = len(misbehaviour.requests)
    lane.ask(2, lane.blocks[:ORIGIN_PIECE_MIN_BLOCKS])
    # All that the first piece is after, and all but one block of the one that waits.
    first = range(-(-len(lane.blocks) // ORIGIN_PARALLEL_REQUESTS))
    for request, blocks in ((1, lane.blocks[: len(first)]), (2, lane.blocks[:3])):
        for block in blocks:
            lane.open[request].discard(block)
            lane.lane.cancel(Cancel(ORIGIN, request, block))
    misbehaviour.awake.set()
    await lane.until(lambda: not any(lane.open.values()))
    again = misbehaviour.requests[running:]
    assert len(again) == running, "all but the first piece, and the one that waited"
    assert f"bytes={3 * BLOCK_BYTES}-{4 * BLOCK_BYTES - 1}" in again
    brought = [event.block for event in lane.of(BlockVerified)]
    assert sorted(brought) == [lane.blocks[3], *lane.blocks[len(first) :]]


async def test_disk_that_refuses_is_no_fault_of_the_origin(
    lane: Lane, misbehaviour: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(self: Download, block: int, data: bytes) -> None:
        raise LocalError("the disk is full")

    monkeypatch.setattr(Download, "write", full)
    lane.ask(1, lane.blocks[:1])
    await lane.until(lambda: bool(lane.errors))
    assert lane.of(RequestRefused) == []


async def test_closing_ends_what_runs_and_what_waits(lane: Lane, misbehaviour: Any) -> None:
    misbehaviour.script = ["hang:0"] * 30
    lane.ask(1, lane.blocks)
    lane.ask(2, lane.blocks)
    await lane.until(lambda: misbehaviour.open == ORIGIN_PARALLEL_REQUESTS)
    lane.lane.close()
    misbehaviour.script.clear()
    misbehaviour.awake.set()
    threads = [t for t in threading.enumerate() if t.name.startswith("dreamer-origin")]
    await lane.until(lambda: not any(thread.is_alive() for thread in threads))
    assert lane.of(BlockVerified) == []
    assert len(misbehaviour.requests) == ORIGIN_PARALLEL_REQUESTS
