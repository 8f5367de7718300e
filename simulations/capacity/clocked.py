"""Frames through a pool, event by event on the engine's clock.

What ``swept.py`` is held to: here a user is switched on and off, each frame is a message that
travels, and a node has a queue that it takes from. Good for some hundred thousand frames.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from functools import partial

from dreamer.simulations.capacity.gpus import GpuPool, Stop, route
from dreamer.simulations.capacity.users import Turn, Users, first_tick, phase_s, turns
from dreamer.simulations.engine.clock import Clock


@dataclass
class SentFrame:
    """A frame on its way; ``wait_s`` None: nobody has taken it (yet)."""

    user: int
    sent_s: float
    refusals: int = 0
    wait_s: float | None = None


@dataclass
class _Node:
    clock: Clock
    pool: GpuPool
    waiting: deque[tuple[SentFrame, Stop]] = field(default_factory=deque)
    pending: int = 0
    pending_of: dict[int, int] = field(default_factory=dict)
    busy: bool = False

    def offer(self, frame: SentFrame, stop: Stop) -> bool:
        """Take a frame, or say that there are too many."""
        mine = self.pending_of.get(frame.user, 0)
        if self.pending >= self.pool.queue_max or mine >= self.pool.per_user_max:
            return False
        self.pending += 1
        self.pending_of[frame.user] = mine + 1
        self.waiting.append((frame, stop))
        self._serve()
        return True

    def _serve(self) -> None:
        if self.busy or not self.waiting:
            return
        self.busy = True
        frame, stop = self.waiting.popleft()
        frame.wait_s = self.clock.now - (frame.sent_s + stop.one_way_s)
        self.clock.after(self.pool.service_s, partial(self._served, frame))

    def _served(self, frame: SentFrame) -> None:
        self.busy = False
        self.pending -= 1
        self.pending_of[frame.user] -= 1
        self._serve()


class FramePool:
    """Users and nodes on one clock. ``frames`` are all that were sent, in order."""

    def __init__(self, users: Users, pool: GpuPool, seed: int, until_s: float) -> None:
        self.clock = Clock()
        self.frames: list[SentFrame] = []
        self._users = users
        self._until_s = until_s
        self._nodes = [_Node(self.clock, pool) for _ in range(pool.nodes)]
        for user in range(users.count):
            stops = route(pool, user, seed)
            for turn in turns(users, user, seed, until_s):
                self._begin_turn(user, turn, phase_s(users, user, seed), stops)

    def run(self) -> list[SentFrame]:
        """Let all of it happen; return the frames, in the order in which they were sent."""
        self.clock.run()
        return self.frames

    def _begin_turn(self, user: int, turn: Turn, phase: float, stops: tuple[Stop, ...]) -> None:
        tick = first_tick(turn, phase, self._users.frames_s)
        due_s = phase + tick / self._users.frames_s
        if due_s < min(turn.end_s, self._until_s):
            self.clock.at(due_s, partial(self._send, user, turn, phase, tick, stops))

    def _send(
        self, user: int, turn: Turn, phase: float, tick: int, stops: tuple[Stop, ...]
    ) -> None:
        frame = SentFrame(user, self.clock.now)
        self.frames.append(frame)
        self.clock.after(stops[0].one_way_s, partial(self._arrive, frame, stops))
        due_s = phase + (tick + 1) / self._users.frames_s
        if due_s < min(turn.end_s, self._until_s):
            self.clock.at(due_s, partial(self._send, user, turn, phase, tick + 1, stops))

    def _arrive(self, frame: SentFrame, stops: tuple[Stop, ...]) -> None:
        stop = stops[frame.refusals]
        if self._nodes[stop.node].offer(frame, stop):
            return
        frame.refusals += 1
        if frame.refusals < len(stops):
            way_s = stop.one_way_s + stops[frame.refusals].one_way_s
            self.clock.after(way_s, partial(self._arrive, frame, stops))
