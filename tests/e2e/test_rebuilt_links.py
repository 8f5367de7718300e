"""Links that die in the midst of a pull: they are made anew, and the same pull goes on."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from dreamer.daemon.client import Dreamer
from dreamer.protocol.limits import LINK_WAITING_SILENCE_S
from dreamer.simulations.loopback import Node, tracker, until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

MIB = 2**20
MODEL = 64 * MIB
STARTED = 6 * MIB
WAIT_S = 90.0
WEBRTC_ONLY = {"DREAMER_NETWORK_DIRECT_LISTEN": ""}


@pytest.fixture(scope="module")
def pair(team):
    """A node with a model, and one without."""
    giver = team.node("giver", env=WEBRTC_ONLY)
    team.room(giver, "lab")
    source = team.model("large", MODEL)
    giver.dreamer("push", str(source), "--room", "lab", "--alias", "large")
    taker = team.member("taker", giver, env=WEBRTC_ONLY)
    return giver, taker


@pytest.fixture
def fresh(pair):
    """The taker, rid of what it has pulled."""
    _, taker = pair
    yield taker
    if any(model.local for model in Dreamer(taker.home).models("lab")):
        taker.dreamer("rm", "large", "--room", "lab")


def workers(node: Node) -> list[psutil.Process]:
    """Return the processes that move a node's blocks."""
    return [
        one
        for one in psutil.Process(node.process.pid).children(recursive=True)
        if any("transport" in word for word in one.cmdline())
    ]


def here(node: Node) -> int:
    """Return how many bytes of the pull under way are verified."""
    pulls = Dreamer(node.home).status()["pulls"]
    return pulls[0]["progress"]["done"] if pulls else 0


@contextmanager
def half_way(node: Node, room: str = "lab"):
    """Begin a pull, and yield it once some of it is here; then it must end well."""
    with node.begin("pull", "large", "--room", room, "--json") as pull:
        until(lambda: here(node) > STARTED or pull.poll() is not None, "some of it", WAIT_S)
        assert pull.poll() is None, "it was over too soon"
        began = time.monotonic()
        yield pull
        out, err = pull.communicate(timeout=WAIT_S)
        assert pull.returncode == 0, out + err
        receipt = json.loads(out)
        print(f"the rest took {time.monotonic() - began:.1f} s")
    assert sum(receipt["bytes"].values()) + receipt["resumed"] <= MODEL + 8 * MIB
    assert receipt["blamed"] == []


@pytest.mark.parametrize("whose", ["giver", "taker"])
def test_transport_that_is_killed_costs_a_moment(team, pair, fresh, whose, watch):
    victim = pair[0] if whose == "giver" else pair[1]
    with half_way(fresh):
        for worker in workers(victim):
            worker.kill()
    (model,) = (one for one in Dreamer(fresh.home).models("lab") if one.local)
    assert watch.content(Path(model.path)) == watch.content(team.root / "sources/large")


@pytest.mark.parametrize("whose", ["giver", "taker"])
def test_daemon_that_is_halted_for_a_while_is_taken_up_again(pair, fresh, whose, watch):
    victim = pair[0] if whose == "giver" else pair[1]
    with half_way(fresh) as pull:
        before = {one.node_id for one in Dreamer(pair[1].home).peers() if one.linked}
        assert before
        with watch.frozen(victim):
            # Longer than silence is borne while blocks are expected.
            until_s = time.monotonic() + LINK_WAITING_SILENCE_S + 4.0
            until(lambda: time.monotonic() > until_s, "the wait", WAIT_S)
            assert pull.poll() is None


def test_pull_outlives_its_tracker(team, tmp_path, watch):
    giver, taker = team.nodes("giver-2", "taker-2", env=WEBRTC_ONLY)
    with tracker(tmp_path / "tracker") as url:
        giver.dreamer("room", "create", "isle", "--tracker", url)
        team.join(taker, giver, "isle")
        source = team.model("large-2", MODEL)
        giver.dreamer("push", str(source), "--room", "isle", "--alias", "large")
        with half_way(taker, "isle"):
            (process,) = (
                one
                for one in psutil.Process().children()
                # What another test left has no command line any more.
                if one.status() != psutil.STATUS_ZOMBIE and str(tmp_path) in one.cmdline()[-1]
            )
            process.kill()
    (model,) = (one for one in Dreamer(taker.home).models("isle") if one.local)
    assert watch.content(Path(model.path)) == watch.content(source)


def test_giver_that_is_killed_and_started_again_goes_on_giving(team, pair, fresh, watch):
    giver, _ = pair
    with half_way(fresh):
        giver.process.kill()
        giver.start()
    (model,) = (one for one in Dreamer(fresh.home).models("lab") if one.local)
    assert watch.content(Path(model.path)) == watch.content(team.root / "sources/large")
