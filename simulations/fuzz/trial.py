"""One run of one scenario, with everything looked at, and an end to it."""

from __future__ import annotations

import traceback
from dataclasses import dataclass
from pathlib import Path

from dreamer.simulations.engine.observer import Observer
from dreamer.simulations.engine.pull import Pull
from dreamer.simulations.engine.world import World
from dreamer.simulations.invariants import BrokenError, Watch
from dreamer.simulations.scenario.model import Scenario

EVENTS_MAX = 150_000
"""Some seconds of real time. What takes longer says nothing: it may only be large."""


@dataclass(frozen=True)
class Failure:
    """``kind``: what went wrong, the same however small the scenario; ``words``: this time."""

    kind: str
    words: str


class TooLongError(Exception):
    """Ends a run that has had its time."""


class _Bounded(Observer):
    """Ends a run after so many events, and counts the pulls that end well."""

    def __init__(self, events_max: int) -> None:
        self.finished = 0
        self._left = events_max

    def pull_ended(self, pull: Pull, now: float) -> None:
        """Count one that was to be, and is whole."""
        self.finished += pull.finished_at is not None and pull.node.group.misdeed is None

    def happened(self, world: World) -> None:
        """Count one."""
        self._left -= 1
        if self._left < 0:
            raise TooLongError


@dataclass(frozen=True)
class Tried:
    """How a trial went. ``over``: it came to its end by itself. ``unfinished``: so many pulls of
    those that were to be have not brought a whole model."""

    failure: Failure | None
    over: bool
    unfinished: int
    trace_hash: str


def try_out(scenario: Scenario, events_max: int = EVENTS_MAX) -> Tried:
    """Run a scenario with its own seed until its end, its first violation, or ``events_max``."""
    watch = Watch(strict=True)
    bounded = _Bounded(events_max)
    world = World(scenario, None, [*watch.observers, bounded])
    failure, over = None, True
    try:
        world.run()
    except BrokenError as error:
        failure = Failure(error.violation.invariant, str(error))
    except TooLongError:
        over = False
    except Exception as error:
        failure = Failure(*_in_words(error))
    return Tried(failure, over, world.pulls_total - bounded.finished, world.trace.hash)


def _in_words(error: Exception) -> tuple[str, str]:
    frame = traceback.extract_tb(error.__traceback__)[-1]
    kind = f"{type(error).__name__} in {Path(frame.filename).name}:{frame.name}"
    return kind, f"{kind}, line {frame.lineno}: {error}"
