"""An ephemeral worker uploads before it ends, no longer than it may, and says what is left."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass

import pytest

from dreamer.daemon.worker import leaving
from dreamer.daemon.worker.leaving import said_of, send_off
from dreamer.protocol.cache_limits import WORKER_STOP_MARGIN_S

WAIT_S = 10.0


@dataclass(frozen=True)
class Upload:
    name: str
    room: str = "lab"
    left_bytes: int = 100


class FakeUploads:
    """``left`` is pending until ``finish`` is called."""

    def __init__(self, *left: Upload) -> None:
        self.left = left
        self.deadline = 0.0
        self.cancelled = False
        self._finished = asyncio.Event()

    def pending(self):
        return self.left

    def finish(self):
        self.left = ()
        self._finished.set()

    async def drain(self, deadline):
        self.deadline = deadline
        if not self.left:
            return ()
        try:
            async with asyncio.timeout(max(0.0, deadline - time.monotonic())):
                await self._finished.wait()
        except TimeoutError:
            pass
        except asyncio.CancelledError:
            self.cancelled = True
            raise
        return self.left


def idle():
    """No push is under way."""
    return False


class Told(list):
    """What was told, and an event for the first."""

    def __init__(self) -> None:
        self.first = asyncio.Event()

    def __call__(self, text):
        self.append(text)
        self.first.set()


async def test_nothing_to_upload_ends_at_once_and_says_nothing():
    told = Told()
    assert await send_off(FakeUploads(), idle, 30.0, asyncio.Event(), told) == ()
    assert told == []


async def test_uploads_finish_first_within_the_grace_period_less_a_margin():
    uploads, told = FakeUploads(Upload("big")), Told()
    before = time.monotonic()
    leaving_task = asyncio.ensure_future(send_off(uploads, idle, 600.0, asyncio.Event(), told))
    async with asyncio.timeout(WAIT_S):
        await told.first.wait()
        await asyncio.sleep(0)
        uploads.finish()
        assert await leaving_task == ()
    assert 0 <= uploads.deadline - before - (600.0 - WORKER_STOP_MARGIN_S) < WAIT_S
    assert "1 models, 100 bytes are left" in told[0]


async def test_grace_period_that_is_over_leaves_the_rest():
    uploads = FakeUploads(Upload("big"))
    async with asyncio.timeout(WAIT_S):
        left = await send_off(uploads, idle, 0.0, asyncio.Event(), Told())
    assert [one.name for one in left] == ["big"]


async def test_second_signal_ends_it_at_once():
    uploads, told, enough = FakeUploads(Upload("big")), Told(), asyncio.Event()
    leaving_task = asyncio.ensure_future(send_off(uploads, idle, 600.0, enough, told))
    async with asyncio.timeout(WAIT_S):
        await told.first.wait()
        await asyncio.sleep(0)
        enough.set()
        left = await leaving_task
    assert [one.name for one in left] == ["big"]
    assert uploads.cancelled


async def test_progress_is_told_again_and_again(monkeypatch):
    monkeypatch.setattr(leaving, "WORKER_LEFT_LOOK_S", 0.001)
    uploads, told = FakeUploads(Upload("big")), Told()
    leaving_task = asyncio.ensure_future(send_off(uploads, idle, 600.0, asyncio.Event(), told))
    async with asyncio.timeout(WAIT_S):
        while len(told) < 3:
            await asyncio.sleep(0)
        uploads.finish()
        await leaving_task


@pytest.mark.parametrize("word", ["big to room lab", "/tmp/x", "terminationGracePeriodSeconds"])
def test_what_is_left_is_said_with_what_to_do(word):
    assert word in said_of([Upload("big")], "/tmp/x")


async def test_push_under_way_becomes_an_upload_and_is_waited_for(monkeypatch):
    monkeypatch.setattr(leaving, "WORKER_PUSH_LOOK_S", 0.0)
    uploads, told, pushes = FakeUploads(), Told(), [1]
    leaving_task = asyncio.ensure_future(
        send_off(uploads, lambda: bool(pushes), 600.0, asyncio.Event(), told)
    )
    async with asyncio.timeout(WAIT_S):
        await told.first.wait()
        uploads.left = (Upload("late"),)
        pushes.clear()
        uploads.deadline = 0.0
        while not uploads.deadline:
            await asyncio.sleep(0)
        assert not leaving_task.done()
        uploads.finish()
        assert await leaving_task == ()


async def test_push_that_can_not_end_in_time_is_said():
    async with asyncio.timeout(WAIT_S):
        assert await send_off(FakeUploads(), lambda: True, 0.0, asyncio.Event(), Told()) == ()
    assert "push again" in said_of((), "/tmp/x")
