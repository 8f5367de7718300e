"""The network changes under a pull that runs: it pauses, goes on, and the file is right."""

import pytest

from dreamer.simulations.netlab.scenarios.changes import CHANGES

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.root,
    pytest.mark.netns,
    pytest.mark.timeout(360),
]


@pytest.mark.parametrize(("scenario", "lane"), [(one.name, one.lane) for one in CHANGES])
def test_a_pull_outlives_what_happens_to_the_network(scenario, lane, outcome):
    came = outcome(scenario)
    assert came.right
    # Most of it: while a link is being built anew, another lane may carry some.
    assert came.lane == lane
