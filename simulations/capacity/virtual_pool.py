"""A node's models in virtual time, by the rules of ``daemon.inference.pool``.

The daemon's own pool is made of processes and waits, so its rules are stated here once more, and a
test runs both through the same day: one request runs per model and others wait their turn; more
than ``INFERENCE_QUEUE_MAX`` are refused; models load one at a time; to make room, the one that was
idle longest goes, and while none is idle, who wants to load waits; what nobody has asked for
``INFERENCE_IDLE_TIMEOUT_S`` goes too.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial

from dreamer.protocol.inference_limits import (
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
    """A model's place: who has it now, who waits. ``held``: it is in memory or loading."""

    waiting: deque[Generation] = field(default_factory=deque)
    current: Generation | None = None
    held: bool = False
    loaded: bool = False
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
        self._running: dict[Generation, None] = {}
        self._busy_since = 0.0
        self.pending = 0

    def offer(self, asked: Generation) -> bool:
        """Take a request, or say that too many wait already."""
        if self.pending >= self._queue_max:
            return False
        self.pending += 1
        seat = self._seats.setdefault(asked.model, _Seat())
        seat.waiting.append(asked)
        self._next(seat)
        return True

    def cancel(self, asked: Generation) -> None:
        """Forget a request that nobody waits for any more."""
        seat = self._seats[asked.model]
        if asked in seat.waiting:
            seat.waiting.remove(asked)
            self.pending -= 1
        elif seat.current is asked:
            self._stop_loading(seat)
            self._leave(seat)

    def _stop_loading(self, seat: _Seat) -> None:
        """A worker whose request goes away while it loads is killed."""
        if seat in self._to_load:
            self._to_load.remove(seat)
        elif self._loading is seat:
            self._loading = None
            seat.held = False

    def _next(self, seat: _Seat) -> None:
        if seat.current is not None or not seat.waiting:
            return
        seat.current = seat.waiting.popleft()
        if seat.loaded:
            self._generate(seat, seat.current)
        else:
            self._to_load.append(seat)
            self._load_next()

    def _load_next(self) -> None:
        if self._loading is not None or not self._to_load or not self._made_room():
            return
        self._loading = seat = self._to_load.popleft()
        seat.held = True
        assert seat.current is not None, "a seat loads for a request"
        seat.timers = [self._clock.after(seat.current.load_s, lambda: self._has_loaded(seat))]

    def _made_room(self) -> bool:
        while len(held := [seat for seat in self._seats.values() if seat.held]) >= self._max_models:
            idle = [seat for seat in held if seat.current is None]
            if not idle:
                return False
            self._end_worker(min(idle, key=lambda seat: seat.idle_since))
        return True

    def _end_worker(self, seat: _Seat) -> None:
        seat.held = seat.loaded = False

    def _has_loaded(self, seat: _Seat) -> None:
        seat.loaded, self._loading = True, None
        assert seat.current is not None, "who goes away while it loads has the load stopped"
        self._generate(seat, seat.current)
        self._load_next()

    def _generate(self, seat: _Seat, asked: Generation) -> None:
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
        self.pending -= 1
        seat.current, seat.idle_since = None, self._clock.now
        self._next(seat)
        self._load_next()
        if seat.current is None and seat.held:
            self._clock.after(INFERENCE_IDLE_TIMEOUT_S, partial(self._reap, seat, seat.idle_since))

    def _not_running(self, asked: Generation) -> None:
        if asked not in self._running:
            # It went away while it loaded.
            return
        del self._running[asked]
        if not self._running:
            self._on_busy(self._busy_since, self._clock.now)

    def _reap(self, seat: _Seat, idle_since: float) -> None:
        # Not by how long it is idle: the clock's sums may be rounded to a little less.
        if seat.current is None and seat.idle_since == idle_since:
            self._end_worker(seat)
