"""Frames through a pool, one pass over all of them in the order of time: exact, and quick.

A node that serves in order and whose service times are known needs no events: a frame begins when
the one before it ends (Lindley's recursion), and ``n`` frames are in a node exactly when the n-th
last that it took has yet to end. ``clocked.py`` does the same event by event on the engine's
clock; a test holds the two to the same result, frame by frame.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from dreamer.simulations.capacity.gpus import GpuPool, Stop, route
from dreamer.simulations.capacity.users import Users, first_tick, phase_s, turns

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

LOST = -1.0
"""In place of the wait of a frame that nobody took."""


class FifoNode:
    """A node that serves one frame at a time, in order, and refuses beyond its limits."""

    def __init__(self, queue_max: int, per_user_max: int) -> None:
        self._queue_max = queue_max
        self._per_user_max = per_user_max
        self._ends: list[float] = []
        self._ends_of: dict[int, list[float]] = {}

    def offer(self, now: float, user: int, service_s: float) -> float | None:
        """Take a frame and return when it begins to be served; None: refused."""
        ends = self._ends
        if len(ends) >= self._queue_max and ends[-self._queue_max] > now:
            return None
        own = self._ends_of.setdefault(user, [])
        if len(own) >= self._per_user_max and own[-self._per_user_max] > now:
            return None
        begins = ends[-1] if ends and ends[-1] > now else now
        ends.append(begins + service_s)
        own.append(begins + service_s)
        return begins


@dataclass(frozen=True)
class Frames:
    """All frames of a run in the order in which they are sent: when, and whose."""

    sent_s: Floats
    user: Ints

    @classmethod
    def of(cls, users: Users, seed: int, until_s: float) -> Frames:
        """Return the frames of some users from 0 up to ``until_s``."""
        times = [_frame_times(users, user, seed, until_s) for user in range(users.count)]
        sent = np.concatenate(times) if times else np.empty(0)
        whose = np.repeat(np.arange(users.count), [len(each) for each in times])
        order = np.argsort(sent, kind="stable")
        return cls(sent[order], whose[order])


def _frame_times(users: Users, user: int, seed: int, until_s: float) -> Floats:
    phase = phase_s(users, user, seed)
    runs = []
    for turn in turns(users, user, seed, until_s):
        first = first_tick(turn, phase, users.frames_s)
        end_s = min(turn.end_s, until_s)
        # One tick too many rather than one too few: those past the end are cut off below.
        ticks = np.arange(first, first + (end_s - turn.start_s) * users.frames_s + 2)
        times = phase + ticks / users.frames_s
        runs.append(times[times < end_s])
    return np.concatenate(runs) if runs else np.empty(0)


@dataclass
class Served:
    """What became of each frame, in the order of ``Frames``: ``wait_s`` from when it is sent until
    it begins to be served, less the way there (``LOST``: nobody took it), and how many nodes
    refused it first."""

    wait_s: list[float]
    refusals: list[int] = field(default_factory=list)


def sweep(frames: Frames, pool: GpuPool, seed: int) -> Served:
    """Return what becomes of frames in a pool."""
    users = int(frames.user.max()) + 1 if len(frames.user) else 0
    routes = [route(pool, user, seed) for user in range(users)]
    nodes = [FifoNode(pool.queue_max, pool.per_user_max) for _ in range(pool.nodes)]
    served = Served([LOST] * len(frames.sent_s), [0] * len(frames.sent_s))
    sent, whose = frames.sent_s.tolist(), frames.user.tolist()
    again: list[Arrival] = []
    for now, index, attempt in _in_order(_first_arrivals(frames, routes), again):
        stops = routes[whose[index]]
        way_s = stops[attempt].one_way_s
        begins = nodes[stops[attempt].node].offer(now, whose[index], pool.service_s)
        if begins is not None:
            served.wait_s[index] = begins - (sent[index] + way_s)
            continue
        served.refusals[index] += 1
        if attempt + 1 < len(stops):
            # The refusal comes back, and the frame goes to the next one.
            there_s = now + way_s + stops[attempt + 1].one_way_s
            heapq.heappush(again, (there_s, index, attempt + 1))
    return served


Arrival = tuple[float, int, int]
"""When a frame gets to a node, which frame, and how many nodes have refused it."""


def _first_arrivals(frames: Frames, routes: list[tuple[Stop, ...]]) -> Iterator[Arrival]:
    ways = np.array([stops[0].one_way_s for stops in routes])
    there = frames.sent_s + (ways[frames.user] if len(ways) else 0.0)
    order = np.argsort(there, kind="stable")
    return zip(there[order].tolist(), order.tolist(), itertools.repeat(0), strict=False)


def _in_order(first: Iterator[Arrival], again: list[Arrival]) -> Iterator[Arrival]:
    """Yield arrivals in the order of time, with those that the reader adds to the heap."""
    for arrival in first:
        while again and again[0] < arrival:
            yield heapq.heappop(again)
        yield arrival
    while again:
        yield heapq.heappop(again)
