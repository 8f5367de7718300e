"""A model's place in the pool: its workers when it is loaded, who waits for them, its tally."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path

from dreamer.daemon.inference.pool.card import Card
from dreamer.daemon.inference.pool.process import WorkerProcess
from dreamer.daemon.inference.pool.statistics import Speeds, Tally
from dreamer.protocol.assignment import Assignment, Load, assign
from dreamer.protocol.errors import DreamerError

PINNED = -1.0
"""A keep-alive that never ends; any negative number is one."""


@dataclass
class ModelWorker:
    """One worker with the model loaded. ``running`` of its slots are taken."""

    number: int
    process: WorkerProcess
    card: Card
    load_began: float
    ready_at: float
    running: int = 0
    requests: int = 0
    retiring: bool = False
    """It takes no more requests: it has failed in a way that may leave it broken."""
    speeds: Speeds = field(default_factory=Speeds)

    @property
    def takes_requests(self) -> bool:
        """Whether it may be asked."""
        return self.process.alive and not self.retiring


class Seat:
    """A model's place in the pool, whether it is loaded or not."""

    def __init__(self, manifest_id: str) -> None:
        self.manifest_id = manifest_id
        self.model_dir = Path()
        self.workers: list[ModelWorker] = []
        self.waiting: deque[asyncio.Future[ModelWorker]] = deque()
        self.loading: asyncio.Task[None] | None = None
        self.draining = False
        """No new request gets a worker: the model is about to leave memory."""
        self.keep_alive_s: float | None = None
        """How long it stays without a request; None: as the settings have it."""
        self.beside: str | None = None
        """A model that doesn't count while room is made for this one: it goes right after."""
        self.grow_after = 0.0
        """When another worker may be tried, after one failed."""
        self.idle_since = time.monotonic()
        self.uses = 0
        """Requests since it was loaded."""
        self.memory_bytes = 0
        """What it took when it was last measured."""
        self.card: Card | None = None
        self.tally = Tally()
        self._last_number = 0
        self._numbers = 0

    @property
    def running(self) -> int:
        """Requests that hold a slot."""
        return sum(worker.running for worker in self.workers)

    @property
    def busy(self) -> bool:
        """Whether somebody is served."""
        return self.running > 0

    @property
    def pinned(self) -> bool:
        """Whether it stays however long nobody asks for it."""
        return self.keep_alive_s is not None and self.keep_alive_s < 0

    @property
    def held(self) -> bool:
        """Whether it takes memory."""
        return bool(self.workers)

    @property
    def takes_requests(self) -> bool:
        """Whether a worker may be asked."""
        return any(worker.takes_requests for worker in self.workers)

    def next_number(self) -> int:
        """Return the number of the next worker."""
        self._numbers += 1
        return self._numbers

    def take_slot(self, how: Assignment) -> ModelWorker | None:
        """Take a free slot; None if there is none."""
        if self.draining:
            return None
        usable = [one for one in self.workers if one.takes_requests]
        if len(usable) == 1:
            # Nothing to choose, as for most models.
            return self._taken(usable[0]) if usable[0].running < usable[0].card.slots else None
        loads = [Load(one.number, one.running, one.card.slots) for one in usable]
        number = assign(loads, how, self._last_number)
        if number is None:
            return None
        return self._taken(next(one for one in usable if one.number == number))

    def _taken(self, worker: ModelWorker) -> ModelWorker:
        self._last_number = worker.number
        worker.running += 1
        worker.requests += 1
        self.uses += 1
        return worker

    def dispatch(self, how: Assignment) -> None:
        """Hand free slots to those who wait, first come first served."""
        while self.waiting:
            if self.waiting[0].done():
                self.waiting.popleft()
                continue
            if (worker := self.take_slot(how)) is None:
                return
            self.waiting.popleft().set_result(worker)

    def fail(self, error: DreamerError) -> None:
        """Tell those who wait that the model can't be had."""
        while self.waiting:
            if not (waiter := self.waiting.popleft()).done():
                waiter.set_exception(error)

    def measure(self) -> int:
        """Measure the memory of its workers and remember it."""
        if self.workers:
            self.memory_bytes = sum(one.process.rss_bytes for one in self.workers)
        return self.memory_bytes

    async def stop(self) -> None:
        """End its workers; what they were asked is lost."""
        workers, self.workers = self.workers, []
        self.uses = 0
        await asyncio.gather(*(one.process.kill() for one in workers))
