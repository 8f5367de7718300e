"""Lossy and slow lines between two real nodes."""

import pytest

from dreamer.simulations.netlab.scenarios.lines import LINES

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.root,
    pytest.mark.netns,
    pytest.mark.timeout(360),
]


@pytest.mark.parametrize(("scenario", "lane"), [(one.name, one.lane) for one in LINES])
def test_a_bad_line_slows_a_pull_and_spoils_nothing(scenario, lane, outcome):
    came = outcome(scenario)
    assert came.right
    assert came.lane == lane
