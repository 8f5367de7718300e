"""Tensors through shared memory: what one side puts in, the other gets out, and room comes back."""

from __future__ import annotations

import asyncio
import os
import random
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dreamer.daemon.inference.pool.tensor_transport import PoolTensors, is_shared
from dreamer.daemon.inference.shared_area import (
    ALIGNMENT_BYTES,
    PAGE_BYTES,
    Regions,
    WrittenArea,
    open_area,
    read_region,
)
from dreamer.daemon.inference.worker.shared_tensors import WorkerTensors
from dreamer.protocol.errors import InputError, LocalError, LocalProtocolError
from dreamer.protocol.inference_limits import (
    TENSOR_INLINE_MAX_BYTES,
    TENSORS_COPIED_ON_LOOP_MAX_BYTES,
    TENSORS_SHARED_KEPT_BYTES,
    TENSORS_SHARED_MAX_BYTES,
)

LARGE = os.urandom(TENSOR_INLINE_MAX_BYTES + 1)
HUGE = os.urandom(3 * TENSORS_COPIED_ON_LOOP_MAX_BYTES)

Sides = tuple[PoolTensors, WorkerTensors]


@pytest.fixture
def sides() -> Iterator[Sides]:
    """Both sides in one process: a worker inherits the pool's file descriptors."""
    pool = PoolTensors()
    yield pool, WorkerTensors(pool.argument)
    pool.close()


async def test_small_tensors_stay_in_the_frame(sides: Sides) -> None:
    fields = {"outputs": [], "parts": [b"abc", b""]}
    assert await sides[0].share(fields) == fields
    assert sides[1].share(1, fields) == fields


@pytest.mark.parametrize("parts", [[LARGE], [b"abc", LARGE, b"", HUGE, b"x"], [HUGE]])
async def test_large_tensors_arrive_both_ways(sides: Sides, parts: list[bytes]) -> None:
    pool, worker = sides
    shared = await pool.share({"outputs": ["y"], "parts": parts})
    assert is_shared(shared)
    assert "parts" not in shared
    received = worker.restore(shared)
    assert received["outputs"] == ["y"]
    assert [bytes(part) for part in received["parts"]] == parts
    answer = await pool.fetch(worker.share(1, {"parts": received["parts"]}))
    assert answer["parts"] == parts


async def test_parts_in_shared_memory_are_aligned(sides: Sides) -> None:
    offset, sizes = (await sides[0].share({"parts": [b"abc", LARGE]}))["shared"]
    assert offset % PAGE_BYTES == 0
    assert sizes == [3, len(LARGE)]
    data = os.pread(sides[0].fds[0], len(LARGE), offset + ALIGNMENT_BYTES)
    assert data == LARGE


async def test_memory_goes_back_when_all_is_answered(sides: Sides) -> None:
    pool, worker = sides
    for number in range(3):
        pool.lent(number, await pool.share({"parts": [bytes(TENSORS_SHARED_KEPT_BYTES)]}))
    assert os.fstat(pool.fds[0]).st_size >= 3 * TENSORS_SHARED_KEPT_BYTES
    for number in (1, 0, 2, 2):
        pool.answered(number)
    assert os.fstat(pool.fds[0]).st_size == TENSORS_SHARED_KEPT_BYTES
    worker.share(7, {"parts": [bytes(2 * TENSORS_SHARED_KEPT_BYTES)]})
    worker.taken(7)
    worker.taken(7)
    assert os.fstat(pool.fds[1]).st_size == TENSORS_SHARED_KEPT_BYTES


async def test_request_waits_for_room_and_then_goes(sides: Sides) -> None:
    pool, worker = sides
    # Room is taken without writing a gigabyte.
    assert pool._requests is not None
    offset = pool._requests.reserve(TENSORS_SHARED_MAX_BYTES - PAGE_BYTES)
    waiting = asyncio.create_task(pool.share({"parts": [LARGE]}))
    await asyncio.sleep(0)
    assert not waiting.done()
    pool.unlent({"shared": [offset, []]})
    assert [bytes(part) for part in worker.restore(await waiting)["parts"]] == [LARGE]


async def test_more_than_there_will_ever_be_is_refused(sides: Sides) -> None:
    part = memoryview(bytes(TENSORS_SHARED_MAX_BYTES // 8))
    with pytest.raises(InputError, match="send the batch in parts"):
        await sides[0].share({"parts": [part] * 9})
    with pytest.raises(InputError, match="smaller batch"):
        sides[1].share(1, {"parts": [part] * 9})


async def test_waiting_request_fails_when_the_worker_ends() -> None:
    pool = PoolTensors()
    assert pool._requests is not None
    pool._requests.reserve(TENSORS_SHARED_MAX_BYTES)
    waiting = asyncio.create_task(pool.share({"parts": [LARGE]}))
    await asyncio.sleep(0)
    pool.close()
    with pytest.raises(LocalError, match="worker ended"):
        await waiting


async def test_abandoned_copy_gives_its_room_back_after_the_thread_is_done(sides: Sides) -> None:
    pool, _ = sides
    copying = asyncio.create_task(pool.share({"parts": [HUGE] * 20}))
    await asyncio.sleep(0)
    copying.cancel()
    with pytest.raises(asyncio.CancelledError):
        await copying
    assert pool._requests is not None
    async with asyncio.timeout(10):
        while pool._requests.reserve(TENSORS_SHARED_MAX_BYTES) is None:
            await asyncio.sleep(0)


@pytest.mark.parametrize(
    "shared",
    [
        [0],
        [-PAGE_BYTES, [10]],
        [0, [-1, 5]],
        [0, ["x"]],
        [0, [TENSORS_SHARED_MAX_BYTES + 1]],
        [TENSORS_SHARED_MAX_BYTES, [1]],
        "nonsense",
        None,
        [0, [TENSORS_SHARED_MAX_BYTES]],
        [PAGE_BYTES, [100]],
    ],
)
async def test_worker_that_lies_about_its_memory_is_found_out(sides: Sides, shared: object) -> None:
    with pytest.raises(LocalProtocolError):
        await sides[0].fetch({"shared": shared})


async def test_worker_that_cuts_its_file_short_is_found_out(sides: Sides) -> None:
    pool, worker = sides
    answer = worker.share(1, {"parts": [LARGE]})
    os.ftruncate(pool.fds[1], 10)
    with pytest.raises(LocalProtocolError, match="end before their time"):
        await pool.fetch(answer)


def test_answer_waits_until_the_pool_has_taken_another(sides: Sides) -> None:
    pool, worker = sides
    assert worker._answers is not None
    first = worker._answers.reserve(TENSORS_SHARED_MAX_BYTES)
    assert first == 0
    worker._given[1] = first
    done: list[object] = []
    thread = threading.Thread(target=lambda: done.append(worker.share(2, {"parts": [LARGE]})))
    thread.start()
    worker.taken(1)
    thread.join(10)
    assert done
    del pool


def test_without_files_everything_stays_in_the_frame() -> None:
    worker = WorkerTensors("")
    assert worker.share(1, {"parts": [LARGE]}) == {"parts": [LARGE]}
    worker.taken(1)


def test_regions_never_overlap_and_gaps_are_used() -> None:
    random_ = random.Random(3)
    regions, held = Regions(64 * PAGE_BYTES), {}
    for _ in range(2000):
        if held and random_.random() < 0.5:
            offset = random_.choice(sorted(held))
            regions.release(offset)
            del held[offset]
            continue
        size = random_.randrange(1, 9 * PAGE_BYTES)
        offset = regions.reserve(size)
        if offset is None:
            gaps = zip(
                [0, *(at + held[at] for at in sorted(held))],
                [*sorted(held), 64 * PAGE_BYTES],
                strict=True,
            )
            assert all(end - start < size for start, end in gaps)
            continue
        assert offset % PAGE_BYTES == 0
        for other, length in held.items():
            assert offset + size <= other or other + length <= offset
        held[offset] = -(-size // PAGE_BYTES) * PAGE_BYTES
    assert len(regions) == len(held)


def test_area_has_no_name_to_be_left_behind() -> None:
    fd = open_area()
    try:
        area = WrittenArea(fd)
        offset = area.reserve(5)
        assert offset is not None
        area.write(offset, [b"hello"])
        assert read_region(fd, offset, [5]) == [b"hello"]
        assert os.fstat(fd).st_nlink == 0
        assert not os.get_inheritable(fd)
    finally:
        os.close(fd)


def mappings() -> int:
    """Return how many shared areas this process has mapped."""
    return Path("/proc/self/maps").read_text().count("dreamer-tensors")


@pytest.mark.skipif(sys.platform != "linux", reason="looks at /proc")
async def test_request_after_request_is_mapped_once(sides: Sides) -> None:
    pool, worker = sides
    before = mappings()
    for number in range(5):
        part = os.urandom(len(LARGE))
        shared = await pool.share({"parts": [part]})
        pool.lent(number, shared)
        assert [bytes(one) for one in worker.restore(shared)["parts"]] == [part]
        assert mappings() == before + 1
        pool.answered(number)


async def test_requests_lie_beside_each_other_and_beyond_what_stays_mapped(sides: Sides) -> None:
    pool, worker = sides
    parts = [os.urandom(size) for size in (100_000, 2_000_000, 7_000_000, 70_000)]
    views = [worker.restore(await pool.share({"parts": [part]}))["parts"][0] for part in parts * 2]
    # The first ones are still there when later ones have moved the mapping.
    assert [bytes(view) for view in views] == parts * 2
