"""How far a run is, on stderr: a bar at a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dreamer.protocol.limits import PROGRESS_LINE_INTERVAL_S

if TYPE_CHECKING:
    from dreamer.simulations.engine.world import World

_BAR_INTERVAL_S = 0.2


@dataclass(frozen=True)
class Standing:
    """How far a run is: virtual seconds, the share of all bytes, pulls, events a real second."""

    at_s: float
    share: float
    ended: int
    pulls: int
    events_s: float

    def __str__(self) -> str:
        return (
            f"at {self.at_s:,.1f} s, {self.ended:,} of {self.pulls:,} pulls ended, "
            f"{self.share:.0%} of all bytes, {self.events_s:,.0f} events/s"
        )


Show = Callable[[Standing], None]


class Watch:
    """Looks at a run whenever it is called, and has shown what it sees now and again."""

    def __init__(self, show: Show, interval_s: float, real: Callable[[], float]) -> None:
        self._show = show
        self._interval_s = interval_s
        self._real = real
        self._began_s = self._shown_s = real()

    def __call__(self, world: World) -> None:
        """Show how far it is, if that is due."""
        now_s = self._real()
        if now_s - self._shown_s >= self._interval_s:
            self._shown_s = now_s
            self._show(self._standing(world, now_s))

    def _standing(self, world: World, now_s: float) -> Standing:
        # Machines that lose their disks fetch again: all that was to come may come twice.
        share = min(1.0, world.fetched_bytes / max(world.to_fetch_bytes, 1))
        events_s = world.clock.happened / max(now_s - self._began_s, 1e-9)
        return Standing(world.clock.now, share, world.pulls_done, world.pulls_total, events_s)


@contextmanager
def watching(what: str) -> Iterator[Watch]:
    """Yield what shows how far a run is when it is called now and again."""
    if sys.stderr.isatty():
        with _bar() as show:
            yield Watch(show, _BAR_INTERVAL_S, time.monotonic)
    else:
        yield Watch(_line(what), PROGRESS_LINE_INTERVAL_S, time.monotonic)


def _line(name: str) -> Show:
    def show(standing: Standing) -> None:
        sys.stderr.write(f"{name}: {standing}\n")
        sys.stderr.flush()

    return show


@contextmanager
def _bar() -> Iterator[Show]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    columns = (BarColumn(bar_width=24), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("", total=1.0)

        def show(standing: Standing) -> None:
            bars.update(task, description=str(standing), completed=standing.share)

        yield show
