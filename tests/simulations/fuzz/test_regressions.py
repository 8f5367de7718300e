"""What the search has found stays mended, and drawn scenarios hold."""

from __future__ import annotations

from random import Random

import pytest

from dreamer.simulations.fuzz.drawing import draw
from dreamer.simulations.fuzz.findings import committed
from dreamer.simulations.fuzz.trial import try_out
from dreamer.simulations.scenario.loader import load

SMOKE = range(30)
SMOKE_EVENTS = 1500
"""Of each run only so much that all of them take a moment: the search goes on for hours."""


@pytest.mark.parametrize("path", committed(), ids=lambda path: path.stem)
def test_what_was_found_stays_mended(path) -> None:
    scenario = load(path)
    outcome = try_out(scenario)
    assert outcome.failure is None
    assert outcome.over
    # A file of machines that rightly come to nothing says so: [expect] all_finish = false.
    assert not (outcome.unfinished and scenario.expect.all_finish)


@pytest.mark.parametrize("seed", SMOKE)
def test_drawn_scenario_breaks_nothing(seed) -> None:
    assert try_out(draw(Random(f"smoke/{seed}")), SMOKE_EVENTS).failure is None
