"""Where to run a request."""

from __future__ import annotations

import pytest

from dreamer.protocol.errors import RemoteError
from dreamer.protocol.ids import NodeId
from dreamer.protocol.offload import Plan, Runner, plan

NEAR, FAR, UNKNOWN = (NodeId(bytes([n]) * 32) for n in (3, 2, 1))
RUNNERS = [Runner(UNKNOWN, None), Runner(FAR, 0.2), Runner(NEAR, 0.01)]


@pytest.mark.parametrize("where", ["auto", "local"])
def test_a_model_that_is_here_runs_here(where) -> None:
    assert plan(where, True, RUNNERS, "m") == Plan(local=True)


@pytest.mark.parametrize("held", [True, False])
def test_asked_for_a_peer_only_peers_will_do_the_nearest_first(held) -> None:
    assert plan("peer", held, RUNNERS, "m") == Plan(False, (NEAR, FAR, UNKNOWN))


def test_a_model_that_is_not_here_runs_on_a_peer() -> None:
    assert plan("auto", False, RUNNERS, "m").peers[0] == NEAR


def test_equal_peers_are_tried_in_one_order() -> None:
    same = [Runner(NEAR, 0.1), Runner(FAR, 0.1)]
    assert plan("peer", False, same, "m") == plan("peer", False, same[::-1], "m")


@pytest.mark.parametrize(
    ("where", "runners", "advice"),
    [
        ("local", RUNNERS, "pull it first"),
        ("peer", [], "serve_peers = true"),
        ("auto", [], "pull it and run it here"),
    ],
)
def test_what_nobody_can_run_says_what_to_do(where, runners, advice) -> None:
    with pytest.raises(RemoteError, match=advice):
        plan(where, False, runners, "m")
