"""Blocking work in a thread, whose progress is followed from the loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Callable
from typing import Generic, TypeVar

from dreamer.daemon.ports import Progress

Result = TypeVar("Result")
Work = Callable[[Callable[[int, int], None], threading.Event], Result]
"""Takes a progress callback (done, total bytes) and an event that asks it to stop."""

PROGRESS_INTERVAL_S = 0.2


class Watched(Generic[Result]):
    """One piece of work; follow it to its end, then take ``result``."""

    def __init__(self, phase: str, work: Work[Result]) -> None:
        self._phase = phase
        self._work = work
        self._latest = (0, 0)
        self._result: list[Result] = []

    @property
    def result(self) -> Result:
        """What the work returned."""
        return self._result[0]

    async def follow(self) -> AsyncGenerator[Progress, None]:
        """Run the work, yielding its progress; closing the iterator asks it to stop."""
        stop = threading.Event()
        task = asyncio.ensure_future(asyncio.to_thread(self._work, self._note, stop))
        try:
            while not task.done():
                yield Progress(self._phase, *self._latest)
                await asyncio.wait([task], timeout=PROGRESS_INTERVAL_S)
        finally:
            stop.set()
            # The thread ends at its next step; its error matters only to whoever still waits.
            task.add_done_callback(lambda done: done.cancelled() or done.exception())
        self._result.append(task.result())

    def _note(self, done: int, total: int) -> None:
        self._latest = (done, total)
