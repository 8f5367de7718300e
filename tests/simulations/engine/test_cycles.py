"""A run has Python look for cycles rarely, and leaves its thresholds as they were."""

from __future__ import annotations

import gc

import pytest

from dreamer.simulations.bench.simulator import flash_crowd
from dreamer.simulations.engine.cycles import LOOKED_FOR_EVERY, looked_for_rarely
from dreamer.simulations.engine.observer import Observer
from dreamer.simulations.engine.outcome import simulate
from dreamer.simulations.engine.world import World


class Looks(Observer):
    """Remembers what the thresholds were when the run was over."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, int, int]] = []

    def ended(self, world: World) -> None:
        self.seen.append(gc.get_threshold())


def test_cycles_are_looked_for_rarely_in_a_run_and_as_before_after_it() -> None:
    before, looks = gc.get_threshold(), Looks()
    simulate(flash_crowd(2, 0.1, 16), observers=[looks])
    assert looks.seen == [LOOKED_FOR_EVERY]
    assert gc.get_threshold() == before


def test_a_run_that_fails_leaves_the_thresholds_as_they_were() -> None:
    before = gc.get_threshold()
    with pytest.raises(RuntimeError), looked_for_rarely():
        raise RuntimeError
    assert gc.get_threshold() == before
