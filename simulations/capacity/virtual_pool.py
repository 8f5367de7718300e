"""A node's models in virtual time, by the rules of ``daemon.inference.pool``.

The daemon's own pool is made of processes and waits, so its rules are stated here once more, and a
test runs both through the same day. One request runs per model (``slots`` = 1: how much slower a
batch writes each of its answers is not modelled) and others wait; when ``INFERENCE_QUEUE_MAX``
wait, further ones are refused. Models load one at a time; to make room, the one that was idle
longest goes. While none is idle, who wants to load waits, and after ``INFERENCE_DRAIN_AFTER_S``
the one in the way takes no further request. What nobody has asked for
``INFERENCE_IDLE_TIMEOUT_S`` goes too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from dreamer.protocol.inference_limits import (
    INFERENCE_DRAIN_AFTER_S,
    INFERENCE_IDLE_TIMEOUT_S,
    INFERENCE_MAX_MODELS,
    INFERENCE_QUEUE_MAX,
)
from dreamer.simulations.engine.clock import Clock, Timer


@dataclass(eq=False)
class Generation:
    """One request on a node: how long its parts take, and whom to tell."""

    model: str
    load_s: float
    prefill_s: float
    decode_s: float
    on_first_token: Callable[[], None]
    on_end: Callable[[], None]


@dataclass(eq=False)
class _Seat:
    """A model's place: who has it now, who waits; whether it is in memory."""

    waiting: deque[Generation] = field(default_factory=deque)
    current: Generation | None = None
    loaded: bool = False
    draining: bool = False
    idle_since: float = 0.0
    timers: list[Timer] = field(default_factory=list)


class VirtualPool:
    """``on_busy(begun, ended)`` is told of every stretch in which requests were worked at, whether
    of one model or of several at once."""

    def __init__(
        self,
        clock: Clock,
        on_busy: Callable[[float, float], None] = lambda begun, ended: None,
        max_models: int = INFERENCE_MAX_MODELS,
        queue_max: int = INFERENCE_QUEUE_MAX,
    ) -> None:
        self._clock = clock
        self._on_busy = on_busy
        self._max_models = max_models
        self._queue_max = queue_max
        self._seats: dict[str, _Seat] = {}
        self._to_load: deque[_Seat] = deque()
        self._loading: _Seat | None = None
        self._first: _Seat | None = None
        self._drain: Timer | None = None
        self._running: dict[Generation, None] = {}
        self._busy_since = 0.0

    @property
    def pending(self) -> int:
        """Requests under way or waiting."""
        return len(self._running) + self._queued

    @property
    def _queued(self) -> int:
        return sum(len(seat.waiting) for seat in self._seats.values())

    def offer(self, asked: Generation) -> bool:
        """Take a request, or say that too many wait already."""
        seat = self._seats.setdefault(asked.model, _Seat())
        free = seat.loaded and not seat.draining and seat.current is None and not seat.waiting
        if not free and self._queued >= self._queue_max:
            return False
        seat.waiting.append(asked)
        self._next(seat)
        return True

    def cancel(self, asked: Generation) -> None:
        """Forget a request that nobody waits for any more."""
        seat = self._seats[asked.model]
        if seat.current is asked:
            self._leave(seat)
        elif asked in seat.waiting:
            seat.waiting.remove(asked)
            self._load_next()

    def _next(self, seat: _Seat) -> None:
        if not seat.waiting:
            return
        if seat.loaded:
            if seat.current is None and not seat.draining:
                self._generate(seat, seat.waiting.popleft())
        elif seat is not self._loading and seat not in self._to_load:
            self._to_load.append(seat)
            self._load_next()

    def _load_next(self) -> None:
        """Load for the first that waits, if there is room; else have room made in a while."""
        # What has begun to load is loaded; what nobody waits for any more gives up its turn.
        while self._loading is None and self._to_load and not self._to_load[0].waiting:
            self._to_load.popleft()
        first = self._to_load[0] if self._to_load and self._loading is None else None
        if first is not self._first:
            self._begin_to_make_room(first)
        if first is None or not self._made_room():
            return
        self._to_load.popleft()
        self._loading = first
        self._begin_to_make_room(None)
        load_s = first.waiting[0].load_s
        self._clock.after(load_s, lambda: self._has_loaded(first))

    def _begin_to_make_room(self, first: _Seat | None) -> None:
        self._first = first
        if self._drain is not None:
            self._drain.cancel()
        after_s = INFERENCE_DRAIN_AFTER_S
        self._drain = self._clock.after(after_s, self._drain_one) if first else None
        for seat in [seat for seat in self._seats.values() if seat.draining]:
            seat.draining = False
            self._next(seat)

    def _drain_one(self) -> None:
        self._in_the_way().draining = True

    def _made_room(self) -> bool:
        while sum(seat.loaded for seat in self._seats.values()) >= self._max_models:
            seat = self._in_the_way()
            if seat.current is not None:
                return False
            seat.loaded = False
        return True

    def _in_the_way(self) -> _Seat:
        """Return the model that goes first: of the idle ones if there are some."""
        held = [seat for seat in self._seats.values() if seat.loaded]
        return min(held, key=lambda seat: (seat.current is not None, seat.idle_since))

    def _has_loaded(self, seat: _Seat) -> None:
        seat.loaded, self._loading = True, None
        seat.idle_since = self._clock.now
        self._next(seat)
        self._load_next()
        self._reap_later(seat)

    def _generate(self, seat: _Seat, asked: Generation) -> None:
        seat.current = asked
        if not self._running:
            self._busy_since = self._clock.now
        self._running[asked] = None
        seat.timers = [
            self._clock.after(asked.prefill_s, asked.on_first_token),
            self._clock.after(asked.prefill_s + asked.decode_s, lambda: self._end(seat, asked)),
        ]

    def _end(self, seat: _Seat, asked: Generation) -> None:
        asked.on_end()
        self._leave(seat)

    def _leave(self, seat: _Seat) -> None:
        """Give a seat to the next one, or leave it idle."""
        for timer in seat.timers:
            timer.cancel()
        assert seat.current is not None, "nobody leaves an empty seat"
        self._not_running(seat.current)
        seat.current, seat.idle_since = None, self._clock.now
        self._next(seat)
        self._load_next()
        # It may have been ended for another just now, and its line is without a worker.
        self._next(seat)
        self._reap_later(seat)

    def _not_running(self, asked: Generation) -> None:
        del self._running[asked]
        if not self._running:
            self._on_busy(self._busy_since, self._clock.now)

    def _reap_later(self, seat: _Seat) -> None:
        if seat.current is None and seat.loaded:
            self._clock.after(INFERENCE_IDLE_TIMEOUT_S, partial(self._reap, seat, seat.idle_since))

    def _reap(self, seat: _Seat, idle_since: float) -> None:
        # Not by how long it is idle: the clock's sums may be rounded to a little less.
        if seat.current is None and seat.idle_since == idle_since:
            seat.loaded = False
