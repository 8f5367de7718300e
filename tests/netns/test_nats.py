"""Two real nodes, the NATs between them, and the lane that they find."""

import pytest

from dreamer.simulations.netlab.scenarios.nats import NATS

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.root,
    pytest.mark.netns,
    pytest.mark.timeout(360),
]

CAN_NOT = {
    "no UDP, public, no TURN": (
        "a direct connection is agreed on over a link, links are WebRTC, and aiortc does ICE over "
        "UDP alone (it has no RFC 6544): without UDP it takes TURN over TCP for the messages"
    ),
}
"""What does not work today, and why; the test fails as soon as it does."""


def scenarios():
    for one in NATS:
        reason = CAN_NOT.get(one.name)
        marks = [pytest.mark.xfail(reason=reason, strict=True)] if reason else []
        yield pytest.param(one.name, one.lane, id=one.name, marks=marks)


@pytest.mark.parametrize(("scenario", "lane"), list(scenarios()))
def test_a_model_comes_whole_over_the_cheapest_lane_that_the_nats_leave(scenario, lane, outcome):
    came = outcome(scenario)
    assert came.right
    assert came.lane == lane
