"""The network: pipes that flows share fairly, and parcels that leave at their exact times.

A flow goes through a handful of pipes (its sender's uplink, its receiver's downlink, a relay, the
line between two regions, a disk) and sends its parcels in turn. Shares are max-min fair
(``fair.py``). They are divided anew when a flow begins or runs dry and when a capacity changes,
but at most once in ``interval_s``: what begins in between takes what is left over of its pipes,
what runs dry leaves its share to such. With ``interval_s`` 0 nothing waits: exact, and slow.

No pipe is overfull at any moment. Between two divisions rates are constant, so the end of a parcel
is known; only those that end before the next look around (at most an interval later) are put on
the clock, for most would be moved again before they came.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from dreamer.simulations.engine.clock import FOREVER, Clock, Timer
from dreamer.simulations.engine.fair import Floats, Numbers, divide
from dreamer.simulations.engine.parcels import Flow, Parcel

__all__ = ["Flow", "Flows", "Parcel"]

Number = TypeVar("Number", bound=np.generic)

FASTEST_BYTES_S = 1e15
"""What no pipe and no flow exceeds: an infinite rate would make times and sums undefined."""

PIPES_PER_FLOW_MAX = 6
FIRST_SLOTS = 64
"""How many flows and pipes there is room for at first; doubled as need be."""

NO_PIPE = 0
"""A pipe without end that fills up the rows of flows that have fewer pipes than others."""


class Flows:
    """All pipes and flows of a run."""

    def __init__(self, clock: Clock, interval_s: float) -> None:
        self.clock = clock
        self._interval_s = interval_s
        self._pipe_count = 1
        self._capacity = np.full(FIRST_SLOTS, np.inf)
        self._spare = np.full(FIRST_SLOTS, np.inf)
        # Of each flow, by slot: what the head of its queue still has to send at ``since``, and when
        # that will have left at the present rate. Infinity: never, or there is nothing to send.
        self._through = np.zeros((PIPES_PER_FLOW_MAX, FIRST_SLOTS), dtype=np.intp)
        self._limit = np.zeros(FIRST_SLOTS)
        self._active = np.zeros(FIRST_SLOTS, dtype=np.bool_)
        self._rate = np.zeros(FIRST_SLOTS)
        self._left = np.zeros(FIRST_SLOTS)
        self._since = np.zeros(FIRST_SLOTS)
        self._due = np.full(FIRST_SLOTS, np.inf)
        self._flows: list[Flow | None] = []
        self._free: list[int] = []
        self._widest = 1
        self._active_count = 0
        # Parcels due up to the horizon are on the clock; ``_wake`` is never later than it.
        self._timers: dict[int, Timer] = {}
        self._horizon = 0.0
        self._wake: Timer | None = None
        self._changed = False
        self._divided_at = -FOREVER
        self.divisions = 0
        """How often shares were divided."""

    # Pipes

    def pipe(self, bytes_s: float) -> int:
        """Return the number of a new pipe that carries so much."""
        number = self._pipe_count
        if number == self._capacity.size:
            self._capacity = _doubled(self._capacity, np.inf)
            self._spare = _doubled(self._spare, np.inf)
        self._pipe_count += 1
        self._capacity[number] = self._spare[number] = min(bytes_s, FASTEST_BYTES_S)
        return number

    def set_capacity(self, pipe: int, bytes_s: float) -> None:
        """Have a pipe carry more or less from now on; 0: nothing passes."""
        old, new = float(self._capacity[pipe]), min(bytes_s, FASTEST_BYTES_S)
        used = old - float(self._spare[pipe])
        self._capacity[pipe] = new
        self._spare[pipe] += new - old
        if used > new:
            # It may not be overfull even until the next division: all give way alike.
            self._give_way(pipe, new / used)
        if self._active_count:
            self._mark()

    def _give_way(self, pipe: int, factor: float) -> None:
        slots = len(self._flows)
        on_it = (self._through[:, :slots] == pipe).any(axis=0) & self._active[:slots]
        for slot in np.flatnonzero(on_it).tolist():
            self._set_rate(slot, float(self._rate[slot]) * factor)
        self._spare[pipe] = max(0.0, float(self._spare[pipe]))

    # Flows: opened, closed, and told by their queues when they have something to send

    def open(self, pipes: Sequence[int], cap_bytes_s: float = FOREVER) -> Flow:
        """Return a new flow through ``pipes`` that never takes more than ``cap_bytes_s``.

        Idle until something is sent. A pipe named twice carries it twice.

        Raises:
            ValueError: More pipes than ``PIPES_PER_FLOW_MAX``.
        """
        if len(pipes) > PIPES_PER_FLOW_MAX:
            raise ValueError(f"a flow goes through {PIPES_PER_FLOW_MAX} pipes at most")
        slot = self._free.pop() if self._free else self._new_slot()
        row = (*pipes, *(NO_PIPE,) * (PIPES_PER_FLOW_MAX - len(pipes)))
        self._through[:, slot] = row
        self._widest = max(self._widest, len(pipes))
        self._limit[slot] = min(cap_bytes_s, FASTEST_BYTES_S)
        flow = self._flows[slot] = Flow(self, slot, tuple(pipes))
        return flow

    def _new_slot(self) -> int:
        slot = len(self._flows)
        self._flows.append(None)
        if slot == self._rate.size:
            self._through = _doubled(self._through, NO_PIPE)
            self._active = _doubled(self._active, False)
            self._limit, self._rate = _doubled(self._limit, 0.0), _doubled(self._rate, 0.0)
            self._left, self._since = _doubled(self._left, 0.0), _doubled(self._since, 0.0)
            self._due = _doubled(self._due, np.inf)
        return slot

    def free(self, slot: int) -> None:
        """Take back the slot of a flow that is closed and idle; the next to open gets it."""
        self._flows[slot] = None
        self._free.append(slot)

    def begin(self, slot: int, size_bytes: float) -> None:
        """Have a flow send a parcel from now on: at its rate if it has one, or at what is left."""
        now = self.clock.now
        self._left[slot] = size_bytes
        self._since[slot] = now
        if self._active[slot]:
            self._expect(slot)
            return
        self._active[slot] = True
        self._active_count += 1
        self._mark()
        self._set_rate(slot, self._left_over(slot))

    def run_dry(self, slot: int) -> None:
        """Have a flow take nothing any more."""
        if not self._active[slot]:
            return
        self._set_rate(slot, 0.0)
        self._active[slot] = False
        self._active_count -= 1
        if self._active_count:
            self._mark()
            return
        # Nothing is left to share: no events, and no rounding errors kept for the next.
        np.copyto(self._spare, self._capacity)
        self._changed = False
        if self._wake is not None:
            self._wake.cancel()
            self._wake = None

    def rate(self, slot: int) -> float:
        """Return a flow's rate in bytes per second."""
        return float(self._rate[slot])

    def left(self, slot: int) -> float:
        """Return what the head of a flow's queue has still to send."""
        gone = float(self._rate[slot]) * (self.clock.now - float(self._since[slot]))
        return max(0.0, float(self._left[slot]) - gone)

    def overfull(self, slack: float = 1e-6) -> list[tuple[int, float, float]]:
        """Return each pipe that carries more than it can: (pipe, bytes per second, capacity).

        Counted from the rates themselves: it is for whoever doubts the rest of this module.
        """
        slots, pipes = len(self._flows), self._pipe_count
        carried = np.zeros(pipes)
        for column in self._through[: self._widest, :slots]:
            carried += np.bincount(column, self._rate[:slots], pipes)
        capacity = self._capacity[:pipes]
        over = np.flatnonzero(carried > capacity * (1.0 + slack)).tolist()
        return [(pipe, float(carried[pipe]), float(capacity[pipe])) for pipe in over]

    # Rates

    def _left_over(self, slot: int) -> float:
        flow = self._flows[slot]
        assert flow is not None, "only a flow that is open begins"
        most = float(self._limit[slot])
        for pipe in flow.pipes:
            most = min(most, float(self._spare[pipe]) / flow.pipes.count(pipe))
        return max(0.0, most)

    def _set_rate(self, slot: int, rate: float) -> None:
        """Change one flow's rate as of now; its pipes are left with more or less."""
        flow = self._flows[slot]
        assert flow is not None, "only an open flow has a rate"
        self._left[slot] = self.left(slot)
        self._since[slot] = self.clock.now
        more = rate - float(self._rate[slot])
        for pipe in flow.pipes:
            self._spare[pipe] -= more
        self._rate[slot] = rate
        self._expect(slot)

    def _expect(self, slot: int) -> None:
        """Work out when the head of a queue will have left, and see that the clock knows."""
        rate = float(self._rate[slot])
        due = float(self._since[slot]) + float(self._left[slot]) / rate if rate else FOREVER
        self._due[slot] = due
        timer = self._timers.pop(slot, None)
        if timer is not None:
            timer.cancel()
        if due <= self._horizon:
            self._on_clock(slot, due)

    def _on_clock(self, slot: int, due: float) -> None:
        self._timers[slot] = self.clock.at(due, partial(self._left_entirely, slot))

    def _left_entirely(self, slot: int) -> None:
        del self._timers[slot]
        self._due[slot] = FOREVER
        flow = self._flows[slot]
        assert flow is not None, "closing a flow takes it off the clock"
        flow.head_left()

    # Divisions

    def _mark(self) -> None:
        """See that shares are divided anew as soon as that may be."""
        if self._changed:
            return
        self._changed = True
        when = max(self.clock.now, self._divided_at + self._interval_s)
        if self._wake is None or when < self._wake.at:
            self._wake_at(when)

    def _wake_at(self, when: float) -> None:
        if self._wake is not None:
            self._wake.cancel()
        self._wake = self.clock.at(when, self._look_around)
        self._horizon = max(self._horizon, when)

    def _look_around(self) -> None:
        self._wake = None
        if self._changed:
            self._divide()
        slots = len(self._flows)
        soonest = float(self._due[:slots].min(initial=FOREVER))
        if soonest == FOREVER:
            return
        # If nothing ends within an interval there is nothing to do before the first does.
        self._horizon = max(self._horizon, soonest, self.clock.now + self._interval_s)
        near = np.flatnonzero(self._due[:slots] <= self._horizon)
        for slot, due in zip(near.tolist(), self._due[near].tolist(), strict=True):
            if slot not in self._timers:
                self._on_clock(slot, due)
        self._wake_at(self._horizon)

    def _divide(self) -> None:
        self._changed = False
        self.divisions += 1
        self._divided_at = now = self.clock.now
        slots = np.flatnonzero(self._active[: len(self._flows)])
        through = self._through[: self._widest, slots]
        capacity = self._capacity[: self._pipe_count]
        rates = divide(capacity, through, self._limit[slots])
        left = self._left[slots] - self._rate[slots] * (now - self._since[slots])
        np.maximum(left, 0.0, out=left)
        self._left[slots], self._since[slots] = left, now
        # Equal rates leave times as they are, to the last bit; so does what ends at this moment.
        moved = (rates != self._rate[slots]) & (self._due[slots] > now)
        self._rate[slots] = rates
        self._spare[: self._pipe_count] = _unused(capacity, through, rates)
        self._move(slots[moved], left[moved])

    def _move(self, slots: Numbers, left: Floats) -> None:
        """Take parcels whose rates have changed to their new times, off the clock."""
        rates = self._rate[slots]
        with np.errstate(divide="ignore", invalid="ignore"):
            due = self.clock.now + left / rates
        self._due[slots] = np.where(rates > 0.0, due, FOREVER)
        for slot in [one for one in self._timers if self._due[one] != self._timers[one].at]:
            self._timers.pop(slot).cancel()


def _unused(capacity: Floats, through: Numbers, rates: Floats) -> Floats:
    unused = capacity.copy()
    for column in through:
        unused -= np.bincount(column, rates, capacity.size)
    # Rounding may leave a hair less than nothing.
    return np.maximum(unused, 0.0)


def _doubled(array: NDArray[Number], fill: float) -> NDArray[Number]:
    """Return it with as many entries more in each row."""
    return np.concatenate((array, np.full_like(array, fill)), axis=-1)
