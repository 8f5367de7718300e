"""The models that this node runs, each in a worker process of its own.

One request runs per worker and further ones wait their turn; the number that wait is bounded.
When one model more is asked for than may be loaded, the one that was idle longest is ended, and
its memory goes back to the system. This module and what it imports stay free of numpy and ONNX
Runtime: dreamerd itself never loads them.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from dreamer.daemon.inference.channel import Done
from dreamer.daemon.inference.process import WorkerOptions, WorkerProcess
from dreamer.daemon.inference.requests import Ended, Event, GenerateRequest, Started, Text
from dreamer.daemon.inference.seat import LoadedModel, Seat
from dreamer.protocol.errors import LocalError
from dreamer.protocol.inference_limits import (
    GENERATE_FIRST_TOKEN_TIMEOUT_S,
    INFERENCE_IDLE_TIMEOUT_S,
    INFERENCE_LOAD_TIMEOUT_S,
    INFERENCE_MAX_MODELS,
    INFERENCE_QUEUE_MAX,
    INFERENCE_REAP_MIN_S,
)


@dataclass(frozen=True)
class PoolSettings:
    """Bounds of a pool. ``threads`` 0 means all cores, ``memory_bytes`` 0 no bound per worker."""

    max_models: int = INFERENCE_MAX_MODELS
    threads: int = 0
    idle_timeout_s: float = INFERENCE_IDLE_TIMEOUT_S
    queue_max: int = INFERENCE_QUEUE_MAX
    memory_bytes: int = 0
    load_timeout_s: float = INFERENCE_LOAD_TIMEOUT_S
    silence_timeout_s: float = GENERATE_FIRST_TOKEN_TIMEOUT_S


class Pool:
    """Runs generations. Use it from one event loop; ``close`` it at the end."""

    def __init__(self, settings: PoolSettings) -> None:
        self._settings = settings
        self._options = WorkerOptions(settings.threads or len(_cores()), settings.memory_bytes)
        self._seats: dict[str, Seat] = {}
        self._kept: dict[str, None] = {}
        self._pending = 0
        self._closing = asyncio.Event()
        self._loading = asyncio.Lock()
        self._freed = asyncio.Event()
        self._reaper: asyncio.Task[None] | None = None

    async def generate(
        self, model_dir: Path, manifest_id: str, request: GenerateRequest
    ) -> AsyncGenerator[Event, None]:
        """Yield ``Started``, ``Text`` as it comes, ``Ended``. Closing the generator cancels.

        Raises:
            InputError: the request or the model can't be used.
            ForbiddenError: the model wants what it may not have.
            LocalError: the queue is full, the worker died or hung; the next request tries anew.
        """
        begun = time.monotonic()
        request.check()
        async with self._turn(manifest_id) as seat:
            worker = await self._worker(seat, model_dir)
            first_token_s = 0.0
            silence_s = self._settings.silence_timeout_s
            async with aclosing(seat.converse(worker, request, silence_s)) as frames:
                async for kind, fields in frames:
                    if kind == "begun":
                        yield Started(manifest_id, fields["prompt_tokens"])
                    elif kind == "text":
                        first_token_s = first_token_s or time.monotonic() - begun
                        yield Text(fields["text"], tuple(fields["token_ids"]))
                    elif kind == "done":
                        seconds = time.monotonic() - begun
                        yield _ended(seat.count(fields), first_token_s or seconds, seconds)
                        return

    async def load(self, model_dir: Path, manifest_id: str, instead_of: str | None = None) -> None:
        """Load a model to stay: it is not ended for being idle.

        ``instead_of`` is a model that will be evicted after this: until then one model more than
        ``max_models`` may be loaded, so that there is no moment in which neither is.

        Raises:
            InputError: the model can't be used.
            LocalError: as many are to stay already, or its worker failed.
        """
        others = [one for one in self._kept if one not in (manifest_id, instead_of)]
        if len(others) >= self._settings.max_models:
            raise LocalError(
                f"{len(others)} models are to stay loaded already, as many as may be: raise "
                "[inference] max_models, or preload fewer"
            )
        self._kept[manifest_id] = None
        try:
            async with self._turn(manifest_id) as seat:
                await self._worker(seat, model_dir, beside=instead_of)
        except BaseException:
            self._kept.pop(manifest_id, None)
            raise

    def loaded(self) -> list[LoadedModel]:
        """Return the models in memory, by manifest id."""
        held = [seat for seat in self._held() if seat.worker and seat.worker.ready]
        return sorted((seat.report() for seat in held), key=lambda model: model.manifest_id)

    def seated(self) -> list[str]:
        """Return the models in memory, and those that are loaded or asked for at this moment."""
        seats = self._seats.values()
        return [seat.manifest_id for seat in seats if seat.worker or seat.turn.locked()]

    @property
    def pending(self) -> int:
        """Requests under way or waiting."""
        return self._pending

    async def evict(self, manifest_id: str) -> None:
        """End a model's worker once the requests before this call are done."""
        self._kept.pop(manifest_id, None)
        if seat := self._seats.get(manifest_id):
            async with seat.turn:
                await seat.stop()
            self._freed.set()

    async def close(self) -> None:
        """End every worker now; requests under way fail."""
        self._closing.set()
        if self._reaper is not None:
            await self._reaper
        await asyncio.gather(*(seat.stop() for seat in self._seats.values()))
        self._freed.set()

    @asynccontextmanager
    async def _turn(self, manifest_id: str) -> AsyncIterator[Seat]:
        """Queue for a model's worker and hold it."""
        self._require_open()
        if self._pending >= self._settings.queue_max:
            raise LocalError(
                f"{self._pending} requests wait for this node's models already; try again later"
            )
        seat = self._seats.setdefault(manifest_id, Seat(manifest_id))
        self._pending += 1
        try:
            async with seat.turn:
                self._require_open()
                yield seat
        except LocalError:
            self._require_open()
            raise
        finally:
            self._pending -= 1
            seat.idle_since = time.monotonic()
            self._freed.set()

    def _require_open(self) -> None:
        if self._closing.is_set():
            raise LocalError("this node is shutting down; ask again when it is back")

    async def _worker(
        self, seat: Seat, model_dir: Path, beside: str | None = None
    ) -> WorkerProcess:
        """Return the seat's worker, loading the model if it isn't in memory."""
        if seat.worker and seat.worker.alive:
            return seat.worker
        await seat.stop()
        async with self._loading:
            await self._make_room(beside)
            self._require_open()
            seat.worker = worker = await WorkerProcess.spawn(model_dir, self._options)
            try:
                self._require_open()
                await worker.load(self._settings.load_timeout_s)
            except BaseException:
                await seat.stop()
                raise
        if self._reaper is None or self._reaper.done():
            self._reaper = asyncio.create_task(self._reap_idle())
        return worker

    async def _make_room(self, beside: str | None) -> None:
        """End the model that was idle longest, or wait until one is idle.

        ``beside`` doesn't count. One that is to stay goes last of all: it comes back when it is
        asked for.
        """
        while len(held := self._held(beside)) >= max(1, self._settings.max_models):
            self._freed.clear()
            if idle := [seat for seat in held if not seat.turn.locked()]:
                await min(idle, key=self._idle_rank).stop()
            else:
                await self._freed.wait()

    def _idle_rank(self, seat: Seat) -> tuple[bool, float]:
        return seat.manifest_id in self._kept, seat.idle_since

    def _held(self, but: str | None = None) -> list[Seat]:
        return [s for s in self._seats.values() if s.worker and s.manifest_id != but]

    async def _reap_idle(self) -> None:
        """End workers that nobody has used for the idle timeout, until none is left."""
        while (held := self._held()) and not self._closing.is_set():
            now = time.monotonic()
            wait_s = self._settings.idle_timeout_s
            for seat in held:
                left_s = seat.idle_since + self._settings.idle_timeout_s - now
                if seat.turn.locked() or seat.manifest_id in self._kept:
                    continue
                if left_s <= 0:
                    await seat.stop()
                else:
                    wait_s = min(wait_s, left_s)
            with suppress(TimeoutError):
                async with asyncio.timeout(max(wait_s, INFERENCE_REAP_MIN_S)):
                    await self._closing.wait()


def _ended(done: Done, first_token_s: float, seconds: float) -> Ended:
    return Ended(
        done.finish_reason, done.prompt_tokens, done.completion_tokens, first_token_s, seconds
    )


def _cores() -> list[int]:
    """Return the cores this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))
