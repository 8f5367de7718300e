"""Real daemons: limits of the rate are kept, and downloads share while they run."""

from __future__ import annotations

import json
from contextlib import closing
from pathlib import Path

import pytest

from dreamer.daemon.client import Dreamer

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

MIB = 2**20
SIZE = 12 * MIB
WAIT_S = 60.0
MBIT = 24
BYTES_S = MBIT * 1_000_000 / 8
EVERYWHERE = {"DREAMER_SHARING_LAN_EXEMPT": "false"}
"""All nodes of a test are on one machine, which is as local as a network can be."""

# A bucket that is full at first lets 2 MiB go at once, and the clock of a lane begins when it first
# asks, which may be a moment after the first block was let go.
LEAST_S = 0.98 * (SIZE - 2 * MIB) / BYTES_S


@pytest.fixture(scope="module")
def keeper(team):
    node = team.node("keeper")
    team.room(node, "lab")
    return node


@pytest.fixture(scope="module")
def giver(team, keeper):
    """A node that sends no faster than 24 Mbit/s to whomever, and holds a model."""
    return team.member("giver", keeper, env={"DREAMER_SHARING_UP_MBIT": str(MBIT), **EVERYWHERE})


def pushed(node, team, name: str, *sizes: int) -> Path:
    source = team.model(name, *sizes)
    node.dreamer("push", str(source), "--room", "lab", "--alias", name)
    return source


@pytest.mark.parametrize("lane", ["direct", "webrtc"])
def test_a_limit_of_what_is_sent_holds_on_every_lane(team, keeper, giver, watch, lane) -> None:
    source = pushed(giver, team, f"sent-{lane}", SIZE)
    off = {} if lane == "direct" else {"DREAMER_NETWORK_DIRECT_LISTEN": ""}
    taker = team.member(f"taker-{lane}", keeper, env=off)
    receipt = taker.dreamer("pull", f"sent-{lane}", "--room", "lab")
    assert receipt["bytes"][lane] == SIZE
    assert LEAST_S <= receipt["lane_seconds"][lane] < 6 * LEAST_S
    assert watch.content(Path(receipt["path"])) == watch.content(source)


def test_a_limit_of_what_is_fetched_holds_and_the_local_network_is_exempt(team, keeper) -> None:
    pushed(keeper, team, "fetched", SIZE)
    limit = {"DREAMER_SHARING_DOWN_MBIT": str(MBIT)}
    limited = team.member("limited", keeper, env={**limit, **EVERYWHERE})
    slow = limited.dreamer("pull", "fetched", "--room", "lab")["lane_seconds"]["direct"]
    limited.process.stop()
    exempt = team.member("exempt", keeper, env=limit)
    quick = exempt.dreamer("pull", "fetched", "--room", "lab")["lane_seconds"]["direct"]
    assert slow >= LEAST_S
    assert quick < slow / 2


def test_a_node_that_joins_late_gets_from_one_half_done(team, keeper, giver, watch) -> None:
    source = pushed(giver, team, "wanted", 2 * SIZE)
    early, late = team.member("early", keeper), team.member("late", keeper)
    with closing(Dreamer(early.home).pull_events("wanted", "lab")) as events:
        for event in events:
            if event.done >= SIZE:
                break
        # Whatever comes from now on comes to both, at the pace that one giver sends to one.
        second = late.begin("pull", "wanted", "--room", "lab", "--json")
        *_, first = events
    with second:
        out, err = second.communicate(timeout=WAIT_S)
    assert second.returncode == 0, err
    receipt = json.loads(out)
    by_peer = receipt["peers"]
    assert by_peer[Dreamer(early.home).status()["node_id"]] > SIZE // 2
    assert sum(by_peer.values()) == 2 * SIZE
    assert watch.content(Path(receipt["path"])) == watch.content(source)
    assert first.size_bytes == 2 * SIZE
