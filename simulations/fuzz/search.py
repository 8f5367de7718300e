"""Draws scenarios until the time is over, and makes a small file of each that fails."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random

from dreamer.simulations.fuzz.drawing import draw
from dreamer.simulations.fuzz.findings import write
from dreamer.simulations.fuzz.shrinking import TRIES_MAX, shrink
from dreamer.simulations.fuzz.trial import EVENTS_MAX, Failure, try_out
from dreamer.simulations.scenario.model import Scenario

TOLD_EVERY_S = 10.0
SAME_KIND_MAX = 3
"""So many findings of one kind: a thing that breaks everywhere need not be found everywhere."""


def fuzz(
    hours: float,
    folder: Path | None = None,
    seed: int = 1,
    report: Callable[[str], None] = print,
    clock: Callable[[], float] = time.monotonic,
    events_max: int = EVENTS_MAX,
    tries: int = TRIES_MAX,
) -> list[Path]:
    """Search for ``hours`` of real time; return the files of what was found.

    Args:
        folder: where findings go; None: where every test run replays them.
        seed: of what is drawn; the search goes the same way each time, as far as time lets it.
        report: takes lines for a person who waits.
        events_max: of each run no more than so many events.
        tries: so many runs to make one failure smaller.
    """

    def keep(scenario: Scenario, failure: Failure) -> Path:
        small = shrink(scenario, partial(_fails_alike, failure, events_max), tries)
        again = try_out(small, events_max).failure or failure
        path = write(small, again, f"dreamer-sim fuzz --seed {seed}", folder)
        machines = sum(group.count for group in small.groups)
        report(f"shrunk to {machines} machines: {again.words} -> {path}")
        return path

    rng, until, told_at = Random(f"fuzz/{seed}"), clock() + hours * 3600.0, clock()
    found: list[Path] = []
    kinds: dict[str, int] = {}
    tried = cut_short = 0
    while clock() < until:
        scenario = draw(rng)
        outcome = try_out(scenario, events_max)
        tried += 1
        cut_short += not outcome.over
        if outcome.failure is not None and _is_new(outcome.failure, kinds):
            report(f"scenario {tried} fails: {outcome.failure.words}")
            found.append(keep(scenario, outcome.failure))
        if clock() >= told_at + TOLD_EVERY_S:
            told_at = clock()
            report(f"{tried} scenarios tried, {cut_short} cut short, {len(found)} findings")
    report(f"{tried} scenarios tried in all, {cut_short} cut short, {len(found)} findings")
    return found


def _is_new(failure: Failure, kinds: dict[str, int]) -> bool:
    kinds[failure.kind] = kinds.get(failure.kind, 0) + 1
    return kinds[failure.kind] <= SAME_KIND_MAX


def _fails_alike(failure: Failure, events_max: int, scenario: Scenario) -> bool:
    other = try_out(scenario, events_max).failure
    return other is not None and other.kind == failure.kind
