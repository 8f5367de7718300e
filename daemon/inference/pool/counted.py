"""What is to happen at the end of a request, however it ends. Classes: no generator is run for it.

A request for tensors goes through these in a millisecond, with processor caches that hold other
things by then; so each function less is felt.
"""

from __future__ import annotations

import time
from types import TracebackType

from dreamer.daemon.inference.pool.process import WorkerLostError
from dreamer.daemon.inference.pool.seat import ModelWorker, Seat
from dreamer.daemon.inference.pool.seats import Seats
from dreamer.daemon.inference.pool.statistics import Durations
from dreamer.protocol.errors import BusyError, DreamerError, LocalError


class Pending:
    """How many requests are under way or waiting, and how long they take."""

    def __init__(self, durations: Durations) -> None:
        self._durations = durations
        self.count = 0

    def began(self) -> float:
        """Count one that begins; return when that was."""
        self.count += 1
        return time.monotonic()

    def ended(self, began: float) -> None:
        """Count one that ends."""
        self.count -= 1
        self._durations.request.add(time.monotonic() - began)


class Asked:
    """A request under way; ``finished`` once its answer is whole. What comes of it is counted."""

    def __init__(self, seats: Seats, pending: Pending, seat: Seat) -> None:
        self.seat = seat
        self.finished = False
        self._seats = seats
        self._pending = pending

    def __enter__(self) -> Asked:
        self._began = self._pending.began()
        self.seat.tally.requests += 1
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pending.ended(self._began)
        tally = self.seat.tally
        if error is None:
            tally.answered += 1
        elif isinstance(error, BusyError):
            tally.refused += 1
        elif isinstance(error, DreamerError):
            tally.failures += 1
            self._seats.require_open()
        else:
            tally.answered += self.finished
            tally.cancelled += not self.finished


class SlotHeld:
    """A slot that was taken; it is given back at the end."""

    def __init__(self, seats: Seats, seat: Seat, worker: ModelWorker) -> None:
        self._seats = seats
        self._seat = seat
        self._worker = worker
        self._began = time.monotonic()
        self._kept = False

    def kept(self) -> SlotHeld:
        """Return this for another context, at whose end alone the slot is given back."""
        self._kept = True
        return self

    def __enter__(self) -> SlotHeld:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._kept:
            self._kept = False
            return
        if isinstance(error, LocalError) and not isinstance(error, WorkerLostError):
            # Out of memory, or the runtime failed: it may not be what it was.
            self._worker.retiring = True
        self._seat.tally.service.add(time.monotonic() - self._began)
        self._seats.release(self._seat, self._worker)
