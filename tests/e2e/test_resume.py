"""``kill -9`` at any moment: the same pull goes on, and hardly a byte is fetched twice."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest

from dreamer.daemon.client import Dreamer
from dreamer.simulations.loopback import Node, until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

MIB = 2**20
MODEL = 96 * MIB
BLOCK = MIB
GETS_AT_ONCE = 12
"""Each GET of the origin is a connection of its own, with a block half here."""

WAIT_S = 60.0
LANES = ("webrtc", "direct", "origin")
MOMENTS = random.Random(11)


@pytest.fixture(scope="module")
def keeper(team):
    """The node that has the model; in a room with an origin, which has it too."""
    node = team.node("keeper")
    team.room(node, "lab")
    team.room(node, "depot", origin=True)
    source = team.model("large", MODEL - 3 * MIB, 3 * MIB)
    for room in ("lab", "depot"):
        node.dreamer("push", str(source), "--room", room, "--alias", "large")
    return node


@pytest.fixture
def learner(team, keeper, lane, request):
    """A fresh member that can be reached over one lane only."""
    room = "depot" if lane == "origin" else "lab"
    env = {"DREAMER_NETWORK_DIRECT_LISTEN": ""} if lane == "webrtc" else {}
    name = re.sub(r"\W+", "-", request.node.name)[-24:]
    node = team.member(f"L{name}", keeper, room=room, env=env)
    if lane == "origin":
        keeper.process.stop()
    yield node
    if node.process.running:
        node.process.stop()
    if not keeper.process.running:
        keeper.start()


def here(node: Node) -> int:
    """Return how many bytes of the pull under way are verified and on disk."""
    pulls = Dreamer(node.home).status()["pulls"]
    return pulls[0]["progress"]["done"] if pulls else 0


def received(node: Node) -> int:
    """Return the payload that links have brought, whole blocks or not, as far as it was told."""
    return sum(peer.bytes_down for peer in Dreamer(node.home).peers())


def resumed_rightly(receipt: dict, lane: str, verified: int, brought: int) -> None:
    """Nothing that was verified was lost, and what came twice is a block for each stream."""
    again = sum(size for name, size in receipt["bytes"].items() if name != "cache")
    # A file that was whole already counts as the store's own.
    kept = receipt["resumed"] + receipt["bytes"]["cache"]
    assert receipt["bytes"][lane] == again
    assert kept >= verified
    streams = GETS_AT_ONCE if lane == "origin" else 1
    twice = brought + again - MODEL
    print(f"{lane}: {verified} verified, {brought} came, {again} fetched again: {twice} twice")
    assert kept + again <= MODEL + streams * BLOCK
    assert twice <= streams * BLOCK


@pytest.mark.parametrize("lane", LANES)
@pytest.mark.parametrize("moment", [round(MOMENTS.uniform(0.02, 0.6), 3) for _ in range(2)])
def test_killed_daemon_fetches_again_a_block_at_most(team, keeper, learner, lane, moment, watch):
    room = "depot" if lane == "origin" else "lab"
    with learner.begin("pull", "large", "--room", room) as first:
        until(lambda: here(learner) > moment * MODEL or first.poll() is not None, "it", WAIT_S)
        verified, brought = here(learner), received(learner)
        learner.process.kill()
        first.communicate(timeout=WAIT_S)
    assert first.returncode == 1, "it was over before it could be killed"
    learner.start()
    receipt = learner.dreamer("pull", "large", "--room", room)
    resumed_rightly(receipt, lane, verified, brought)
    assert watch.content(Path(receipt["path"])) == watch.content(team.root / "sources/large")


@pytest.mark.parametrize("lane", LANES)
def test_killed_command_fetches_again_a_block_at_most(team, keeper, learner, lane, watch):
    room = "depot" if lane == "origin" else "lab"
    moment = MOMENTS.uniform(0.02, 0.5)
    with learner.begin("pull", "large", "--room", room) as first:
        until(lambda: here(learner) > moment * MODEL or first.poll() is not None, "it", WAIT_S)
        verified, brought = here(learner), received(learner)
        first.kill()
        first.communicate(timeout=WAIT_S)
    receipt = learner.dreamer("pull", "large", "--room", room)
    resumed_rightly(receipt, lane, verified, brought)
    assert watch.content(Path(receipt["path"])) == watch.content(team.root / "sources/large")
