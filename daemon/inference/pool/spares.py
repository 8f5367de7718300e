"""Workers started ahead, their libraries imported, so that a cold start is only the loading.

A spare costs the memory of Python, numpy and ONNX Runtime without a model. The next one is
started when the pool has been left alone for a moment: not while a model is being loaded.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from dreamer.daemon.inference.pool.process import WorkerProcess
from dreamer.protocol.inference_limits import INFERENCE_SPARE_DELAY_S


class Spares:
    """Keeps ``count`` workers ready, once ``keep`` was called."""

    def __init__(self, count: int, silence_timeout_s: float) -> None:
        self._count = count
        self._silence_timeout_s = silence_timeout_s
        self._ready: list[WorkerProcess] = []
        self._starting: asyncio.Task[None] | None = None
        self._adding: asyncio.Task[None] | None = None
        self._closed = False

    @property
    def processes(self) -> list[WorkerProcess]:
        """The spares that live."""
        return [one for one in self._ready if one.alive]

    async def take(self) -> WorkerProcess:
        """Return a worker: a spare one, or one that is started now."""
        while self._ready:
            worker = self._ready.pop(0)
            if worker.alive:
                return worker
            await worker.kill()
        return await WorkerProcess.spawn(self._silence_timeout_s)

    def keep(self, delay_s: float = INFERENCE_SPARE_DELAY_S) -> None:
        """Have as many spares as wanted after ``delay_s``; a call before that starts it anew."""
        if self._starting is not None:
            self._starting.cancel()
        if not self._closed and self._count:
            self._starting = asyncio.create_task(self._start(delay_s))

    async def close(self) -> None:
        """End them."""
        self._closed = True
        if self._starting is not None:
            self._starting.cancel()
            with suppress(asyncio.CancelledError):
                await self._starting
        if self._adding is not None:
            await self._adding
        await asyncio.gather(*(one.kill() for one in self._ready))

    async def _start(self, delay_s: float) -> None:
        await asyncio.sleep(delay_s)
        for lost in [one for one in self._ready if not one.alive]:
            self._ready.remove(lost)
            await lost.kill()
        while len(self._ready) < self._count:
            # A worker that was started must be in the list, whoever cancels this.
            self._adding = asyncio.create_task(self._add())
            await asyncio.shield(self._adding)

    async def _add(self) -> None:
        worker = await WorkerProcess.spawn(self._silence_timeout_s)
        if self._closed:
            await worker.kill()
        else:
            self._ready.append(worker)
