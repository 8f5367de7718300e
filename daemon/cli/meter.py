"""Progress on stderr: a bar on a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from dreamer.daemon.cli.plain_text import one_line, rate, size
from dreamer.daemon.ports import LANES, Progress
from dreamer.protocol.limits import PROGRESS_LINE_INTERVAL_S

Show = Callable[[Progress], None]


@contextmanager
def metering(what: str) -> Iterator[Show]:
    """Yield the function that shows how far ``what`` is."""
    if sys.stderr.isatty():
        with _bar() as show:
            yield show
    else:
        yield Lines(what, time.monotonic).show


class Lines:
    """Writes a line when the phase changes, and every few seconds within one."""

    def __init__(self, what: str, clock: Callable[[], float]) -> None:
        self._what = what
        self._clock = clock
        self._phase = ""
        self._next_s = 0.0

    def show(self, progress: Progress) -> None:
        """Write a line if one is due."""
        # Logs keep every line: a line for each event would bury the rest.
        now = self._clock()
        if progress.phase == self._phase and now < self._next_s:
            return
        self._phase = progress.phase
        self._next_s = now + PROGRESS_LINE_INTERVAL_S
        sys.stderr.write(f"{self._what}: {progress.phase} {figures(progress)}\n")
        sys.stderr.flush()


def figures(progress: Progress) -> str:
    """Return how much, how fast, by which lanes, in one line."""
    parts = [f"{size(progress.done)} of {size(progress.total)}"] if progress.total else []
    if progress.parts_total:
        parts.append(f"{progress.parts_done} of {progress.parts_total} parts")
    if progress.rate_bytes_s:
        parts.append(rate(progress.rate_bytes_s))
        left_s = max(0, progress.total - progress.done) / progress.rate_bytes_s
        parts.append(f"{left_s:.0f} s left")
    parts += [
        f"{lane} {size(progress.by_lane[lane])}" for lane in LANES if progress.by_lane.get(lane)
    ]
    if progress.note:
        parts.append(one_line(progress.note))
    return ", ".join(parts)


@contextmanager
def _bar() -> Iterator[Show]:
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, TextColumn
    from rich.progress import Progress as Bars

    columns = (
        TextColumn("{task.description:8}"),
        BarColumn(bar_width=24),
        TextColumn("{task.fields[figures]}"),
    )
    with Bars(*columns, console=Console(stderr=True), transient=True) as bars:
        task = bars.add_task("", total=None, figures="")

        def show(progress: Progress) -> None:
            bars.update(
                task,
                description=escape(progress.phase),
                completed=progress.done,
                total=progress.total or None,
                figures=escape(figures(progress)),
            )

        yield show
