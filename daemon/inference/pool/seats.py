"""All models' places: who gets a slot, which workers are started, what leaves memory.

A request takes a slot of a worker or waits in its model's line; the lines together are bounded.
Loads happen one after another, so that what each takes is known before the next is decided.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from contextlib import suppress

from dreamer.daemon.inference.pool.loading import Loading
from dreamer.daemon.inference.pool.seat import ModelWorker, Seat
from dreamer.daemon.inference.pool.settings import PoolSettings
from dreamer.daemon.tasks import TaskSet
from dreamer.protocol.errors import BusyError, DreamerError, LocalError
from dreamer.protocol.inference_limits import (
    GPU_MEMORY_INTERVAL_S,
    INFERENCE_DRAIN_AFTER_S,
    INFERENCE_REAP_MIN_S,
    INFERENCE_RELOAD_MIN_INTERVAL_S,
    INFERENCE_RETRY_AFTER_MAX_S,
    INFERENCE_RETRY_AFTER_MIN_S,
)
from dreamer.protocol.residency import Resident, make_room

log = logging.getLogger(__name__)


class Seats:
    """The places of all models. Use it from one event loop; ``close`` it at the end."""

    def __init__(self, settings: PoolSettings) -> None:
        self._settings = settings
        self._seats: dict[str, Seat] = {}
        self._loading_one = asyncio.Lock()
        self._freed = asyncio.Event()
        self._closing = asyncio.Event()
        self._changed_keep_alive = asyncio.Event()
        self._reaper: asyncio.Task[None] | None = None
        self._tasks = TaskSet()
        self.loading = Loading(settings)
        self.loading.workers_on = self._workers_on
        self.changed: list[Callable[[], None]] = []
        """Called when a model comes or goes, or a line gets longer or shorter."""

    def seat(self, manifest_id: str) -> Seat:
        """Return a model's place."""
        return self._seats.get(manifest_id) or self._seats.setdefault(
            manifest_id, Seat(manifest_id)
        )

    def known(self, manifest_id: str) -> Seat | None:
        """Return a model's place if it ever had one."""
        return self._seats.get(manifest_id)

    def all(self) -> list[Seat]:
        """Return the places, whether the model is loaded or not."""
        return list(self._seats.values())

    @property
    def queued(self) -> int:
        """Requests that wait for a slot."""
        return sum(len(seat.waiting) for seat in self._seats.values())

    def require_open(self) -> None:
        """Refuse what comes after the end began.

        Raises:
            LocalError: it did.
        """
        if self._closing.is_set():
            raise LocalError("this node is shutting down; ask again when it is back")

    def take(self, seat: Seat) -> ModelWorker | None:
        """Take a slot of a model's worker if one is free and nobody waits for it."""
        self.require_open()
        if seat.waiting or (worker := seat.take_slot(self._settings.assignment)) is None:
            return None
        self._tell()
        return worker

    async def acquire(self, seat: Seat) -> ModelWorker:
        """Take a slot of a model's worker, loading the model if need be.

        Raises:
            BusyError: as many requests wait as may.
            DreamerError: the model can't be loaded.
        """
        if (taken := self.take(seat)) is not None:
            return taken
        if self.queued >= self._settings.queue_max:
            raise self._busy(seat)
        waiter: asyncio.Future[ModelWorker] = asyncio.get_running_loop().create_future()
        seat.waiting.append(waiter)
        self.pump(seat)
        try:
            return await waiter
        except asyncio.CancelledError:
            if waiter.done() and not waiter.cancelled() and waiter.exception() is None:
                self.release(seat, waiter.result())
            # Room that was made for it alone is wanted no more.
            self._freed.set()
            raise
        finally:
            with suppress(ValueError):
                seat.waiting.remove(waiter)

    def release(self, seat: Seat, worker: ModelWorker) -> None:
        """Give a slot back."""
        worker.running -= 1
        seat.idle_since = time.monotonic()
        if worker.retiring and not worker.running:
            self._tasks.start(self._remove(seat, worker))
        if seat.keep_alive_s == 0:
            self._tasks.start(self._unload_idle(seat))
        self._freed.set()
        self.pump(seat)

    def pump(self, seat: Seat) -> None:
        """Serve who waits, and start a worker if nobody else can."""
        if seat.waiting:
            seat.dispatch(self._settings.assignment)
        if seat.waiting and not self._closing.is_set() and self._wants_worker(seat):
            seat.loading = self._tasks.start(self._load(seat), waited_for=True)
        self._tell()

    def keep(self, seat: Seat, keep_alive_s: float | None) -> None:
        """Have a model stay so long after its last request; None: as it is."""
        if keep_alive_s is not None:
            seat.keep_alive_s = keep_alive_s
            self._changed_keep_alive.set()

    def kept_s(self, seat: Seat) -> float:
        """Return how long a model stays without a request."""
        chosen = seat.keep_alive_s
        return self._settings.idle_timeout_s if chosen is None else chosen

    async def load(self, seat: Seat, beside: str | None) -> None:
        """Load a model now. ``beside`` is one that doesn't count while room is made.

        Raises:
            DreamerError: it can't be loaded.
        """
        self.require_open()
        seat.beside = beside
        try:
            # A request like any other: it waits for a worker, and asks it nothing.
            self.release(seat, await self.acquire(seat))
        finally:
            seat.beside = None

    async def evict(self, seat: Seat) -> None:
        """End a model's workers once the requests before this call are done."""
        seat.keep_alive_s = None
        if before := list(seat.waiting):
            await asyncio.wait(before)
        seat.draining = True
        try:
            await self._until(lambda: not seat.busy and seat.loading is None)
            await self._unload(seat)
        finally:
            seat.draining = False
            self.pump(seat)

    async def close(self) -> None:
        """End every worker now; requests under way fail."""
        self._closing.set()
        self._freed.set()
        if self._reaper is not None:
            await self._reaper
        for seat in self._seats.values():
            seat.fail(LocalError("this node is shutting down; ask again when it is back"))
        await self._tasks.close()
        await asyncio.gather(self.loading.close(), *(seat.stop() for seat in self._seats.values()))

    def _tell(self) -> None:
        for told in self.changed:
            told()

    def _wants_worker(self, seat: Seat) -> bool:
        if seat.draining or seat.loading is not None:
            return False
        if not any(worker.takes_requests for worker in seat.workers):
            return True
        # One worker more is a convenience: nobody else has to go for it.
        return time.monotonic() >= seat.grow_after and self.loading.may_grow(
            seat, self._residents(None)
        )

    async def _load(self, seat: Seat) -> None:
        """Start a worker for those who wait."""
        first = not any(worker.takes_requests for worker in seat.workers)
        try:
            async with self._loading_one:
                wanted_bytes = await self.loading.expected_bytes(seat)
                if first:
                    await self._make_room(seat, wanted_bytes)
                self.require_open()
                if not seat.waiting:
                    # All have gone: nobody else leaves for them.
                    return
                worker = await self.loading.start_worker(seat, wanted_bytes)
                worker.process.when_lost = lambda: self._lost(seat, worker)
                seat.workers.append(worker)
                if not worker.process.alive:
                    self._lost(seat, worker)
                await self._settle(seat)
        except DreamerError as error:
            self._failed_load(seat, error)
        except Exception as error:
            # A bug of ours or of a worker's: who waits must not wait for ever.
            log.exception("loading %s failed", seat.manifest_id[:8])
            told = LocalError(f"the model can't be loaded ({error!r:.200}); see the log")
            self._failed_load(seat, told)
        finally:
            seat.loading = None
            seat.idle_since = time.monotonic()
            self._freed.set()
            self._reap()
            self.pump(seat)

    def _failed_load(self, seat: Seat, error: DreamerError) -> None:
        seat.tally.failed_loads += 1
        seat.grow_after = time.monotonic() + INFERENCE_RELOAD_MIN_INTERVAL_S
        if not any(one.takes_requests for one in seat.workers):
            seat.fail(error)

    def _lost(self, seat: Seat, worker: ModelWorker) -> None:
        """Bury a worker that died, and replace it if its model is to stay."""
        seat.tally.lost_workers += 1
        worker.retiring = True
        if not self._closing.is_set():
            self._tasks.start(self._remove(seat, worker))

    async def _remove(self, seat: Seat, worker: ModelWorker) -> None:
        was_held = worker in seat.workers
        if was_held:
            seat.workers.remove(worker)
        await worker.process.kill()
        self._freed.set()
        now = time.monotonic()
        too_soon = now - worker.ready_at < INFERENCE_RELOAD_MIN_INTERVAL_S and not worker.requests
        if was_held and seat.pinned and not seat.workers and not seat.waiting and not too_soon:
            with suppress(DreamerError):
                await self.load(seat, None)
        self.pump(seat)

    async def _make_room(self, seat: Seat, wanted_bytes: int) -> None:
        """Have models leave until there is room for one more.

        Who is in the way is asked to end when it doesn't by itself: its further requests wait.
        """
        drained: list[Seat] = []
        drains_at = time.monotonic() + INFERENCE_DRAIN_AFTER_S
        try:
            while seat.waiting and not self._closing.is_set():
                room = make_room(
                    self._residents(seat),
                    *(wanted_bytes, self._settings.bounds, self._settings.eviction),
                )
                if room.too_large:
                    raise self._too_large(wanted_bytes)
                for victim in room.victims:
                    await self._unload(self._seats[victim])
                if not room.awaited:
                    return
                await self._freed_within(max(0.0, drains_at - time.monotonic()) or None)
                if time.monotonic() >= drains_at:
                    for one in (self._seats[name] for name in room.awaited):
                        one.draining = True
                        drained.append(one)
        finally:
            for one in drained:
                one.draining = False
                self.pump(one)

    def _workers_on(self, device: str) -> int:
        workers = (worker for seat in self._seats.values() for worker in seat.workers)
        return sum(worker.card.device == device for worker in workers)

    async def _settle(self, seat: Seat) -> None:
        """Have idle models leave if the one just loaded takes more than was thought."""
        rest, taken = self._residents(seat), seat.measure()
        room = make_room(rest, taken, self._settings.bounds, self._settings.eviction)
        if room.too_large:
            log.warning("%s takes %d bytes, more than max_memory_gb", seat.manifest_id[:8], taken)
        for victim in room.victims:
            await self._unload(self._seats[victim])

    def _residents(self, but: Seat | None) -> list[Resident]:
        return [
            Resident(
                seat.manifest_id,
                seat.measure(),
                seat.idle_since,
                seat.uses,
                pinned=seat.pinned,
                busy=seat.busy,
            )
            for seat in self._seats.values()
            if seat.held and seat is not but and (but is None or seat.manifest_id != but.beside)
        ]

    async def _unload(self, seat: Seat) -> None:
        if seat.held:
            seat.tally.evictions += 1
            await seat.stop()
            self._freed.set()
            self._tell()

    async def _unload_idle(self, seat: Seat) -> None:
        if not seat.busy and not seat.waiting and seat.loading is None:
            # Before the workers are gone: a request that comes meanwhile may say for how long.
            seat.keep_alive_s = None
            await self._unload(seat)
            self.pump(seat)

    async def _until(self, reached: Callable[[], bool]) -> None:
        while not reached() and not self._closing.is_set():
            await self._freed_within(None)

    async def _freed_within(self, seconds: float | None) -> None:
        """Wait until anything is freed, but no longer than that; None: as long as it takes."""
        self._freed.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._freed.wait()

    def _reap(self) -> None:
        if self._reaper is None or self._reaper.done():
            self._reaper = asyncio.create_task(self._reap_idle())

    async def _reap_idle(self) -> None:
        """Unload models that nobody has used for their time, until none is left."""
        while not self._closing.is_set() and any(seat.held for seat in self._seats.values()):
            # Before anything is looked at: what is said from here on is looked at again.
            self._changed_keep_alive.clear()
            wait_s = self._settings.idle_timeout_s
            for seat in [one for one in self._seats.values() if one.held and not one.pinned]:
                if seat.busy or seat.waiting or seat.loading is not None:
                    # It leaves its time after it is idle, no sooner; with no time, by `release`.
                    wait_s = min(wait_s, self.kept_s(seat) or wait_s)
                    continue
                left_s = seat.idle_since + self.kept_s(seat) - time.monotonic()
                if left_s <= 0:
                    await self._unload_idle(seat)
                else:
                    wait_s = min(wait_s, left_s)
            await self.loading.devices.refresh()
            if self.loading.devices.gpus:
                wait_s = min(wait_s, GPU_MEMORY_INTERVAL_S)
            await self._woken(max(wait_s, INFERENCE_REAP_MIN_S))

    async def _woken(self, seconds: float) -> None:
        """Wait, but not past the end or another keep-alive."""
        waits = [
            asyncio.ensure_future(event.wait())
            for event in (self._closing, self._changed_keep_alive)
        ]
        await asyncio.wait(waits, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        for one in waits:
            one.cancel()

    def _busy(self, seat: Seat) -> BusyError:
        """Say when a place in the line is likely to be free: as one request ends."""
        slots = sum(worker.card.slots for worker in seat.workers) or self._settings.slots
        each_s = seat.tally.service.seconds + (0 if seat.held else seat.tally.loading.seconds)
        after_s = min(max(each_s / slots, INFERENCE_RETRY_AFTER_MIN_S), INFERENCE_RETRY_AFTER_MAX_S)
        return BusyError(
            f"{self.queued} requests wait for this node's models already; "
            f"try again in {after_s:.0f} s",
            after_s,
        )

    def _too_large(self, wanted_bytes: int) -> LocalError:
        bound = self._settings.max_memory_bytes
        return LocalError(
            f"the model takes about {wanted_bytes / 1e9:.1f} GB and all models together may take "
            f"{bound / 1e9:.1f} GB: raise [inference] max_memory_gb, or run a smaller one"
        )
