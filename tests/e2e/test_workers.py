"""Kinds of worker as real daemons: pods that join, pull, upload and go; nodes that stay."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path

import pytest

from dreamer.daemon.client import Dreamer
from dreamer.simulations.loopback import program, until
from dreamer.simulations.pods import Pod

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

MIB = 2**20
WAIT_S = 60.0
LEFT = 75


@pytest.fixture(scope="module")
def keeper(team):
    """The node that made room ``lab`` and, with an origin, room ``depot``."""
    a = team.node("A")
    team.room(a, "lab")
    team.room(a, "depot", origin=True)
    return a


@pytest.fixture(scope="module")
def token(keeper):
    """An invitation for many pods."""
    return keeper.dreamer("room", "invite", "lab", "--uses", "100")["token"]


@pytest.fixture
def root(team, request):
    return team.fresh(team.root / request.node.name[5:25])


def push(keeper, path, *aliases, room="lab"):
    options = [word for alias in aliases for word in ("--alias", alias)]
    return keeper.dreamer("push", str(path), "--room", room, *options)


# Ephemeral workers


def test_pod_joins_pulls_and_is_gone_with_all_it_had(team, keeper, token, root):
    model = team.model("weights", 3 * MIB)
    push(keeper, model, "weights")
    with Pod(root, "pod", DREAMER_JOIN_TOKEN=token, DREAMER_MODELS_PRELOAD="weights") as pod:
        (home,) = pod.left_over()
        assert home.stat().st_mode & 0o777 == 0o700
        status = pod.dreamer("status")
        assert status["worker"]["kind"] == "ephemeral"
        assert "home can't be written" in status["worker"]["why"]
        assert Path(status["store"]["path"]).is_relative_to(home)
        place = pod.dreamer("pull", "weights")["path"]
        pulled = (Path(place) / "part-0.bin").read_bytes()
        assert pulled == (model / "part-0.bin").read_bytes()
        environ = Path(f"/proc/{pod.process.pid}/environ").read_bytes()
        assert token.encode() in environ  # what exec was given stays there,
        for child in children_of(pod.process.pid):  # and goes to nobody else
            assert token.encode() not in Path(f"/proc/{child}/environ").read_bytes()
        assert pod.process.stop() == 0
    assert pod.left_over() == []


def children_of(pid: int) -> list[int]:
    listed = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [int(child) for child in listed]


def test_nobody_asks_an_ephemeral_worker_for_a_model(team, keeper, token, root):
    push(keeper, team.model("rare", 3 * MIB), "rare")
    seed = team.member("seed", keeper)
    seed.dreamer("pull", "rare")
    with Pod(root, "pod", DREAMER_JOIN_TOKEN=token, DREAMER_MODELS_PRELOAD="rare") as pod:
        late = team.member("late", keeper)
        until(
            lambda: any(one.ephemeral and one.linked for one in Dreamer(late.home).peers()),
            "a link between the pod and the late one",
        )

        def holders():
            return [m["on_nodes"] for m in late.dreamer("models")["models"] if m["name"] == "rare"]

        # Neither tracker nor gossip names it, though it has the whole model.
        until(lambda: holders() == [2], "the holders being known")
        assert [m["local"] for m in pod.dreamer("models")["models"] if m["name"] == "rare"] == [
            True
        ]
        for node in (seed, keeper):
            node.dreamer("rm", "rare")
        until(lambda: holders() == [0], "the holders having gone")
        answer = late.try_dreamer("pull", "rare")
        assert answer.status == 1
        assert "dreamer: " in answer.err
        given = [one["bytes_down"] for one in late.dreamer("peers")["peers"] if one["ephemeral"]]
        assert given == [0]
        assert sum(one.bytes_up for one in pod.client.peers()) == 0
        assert pod.process.stop() == 0


def test_push_that_nobody_could_fetch_is_refused(team, keeper, token, root):
    with Pod(root, "pod", DREAMER_JOIN_TOKEN=token) as pod:
        answer = pod.try_dreamer("push", str(team.model("own", MIB)), "--room", "lab")
        assert answer.status == 1
        assert "room lab has no origin" in answer.err
        pod.process.stop()


def test_home_on_a_read_only_file_system_is_one_that_can_not_be_written(team, token, root):
    if os.geteuid() or not shutil.which("unshare"):
        pytest.skip("needs root and unshare")
    home = root / "home"
    home.mkdir()
    pod = Pod(root, "pod", DREAMER_JOIN_TOKEN=token, DREAMER_HOME=str(home))
    mounted = f'mount -t tmpfs -o ro none {home} && exec "$0"'
    pod.process.argv = ["unshare", "--mount", "sh", "-c", mounted, program("dreamerd")]
    with pod:
        assert (root / "pod-tmp").exists()
        assert pod.client.status()["worker"]["session"]
        assert [room.name for room in pod.client.rooms()] == ["lab"]
        pod.process.stop()


def test_identity_that_the_pod_is_given_is_its_own(keeper, token, root):
    seed = os.urandom(32).hex()
    ids = []
    for name in ("first", "second"):
        with Pod(root, name, DREAMER_JOIN_TOKEN=token, DREAMER_IDENTITY=seed) as pod:
            ids.append(pod.dreamer("status")["node_id"])
            pod.process.stop()
    assert ids[0] == ids[1]


# Uploads before the end


def stored_bytes(team) -> int:
    client = team.s3()
    try:
        found = client.list_objects_v2(Bucket="models", Prefix=f"{team.root.name}-depot/")
        return sum(one["Size"] for one in found.get("Contents", []))
    finally:
        client.close()


def test_uploads_finish_before_the_pod_ends(team, keeper, watch, root):
    depot = keeper.dreamer("room", "invite", "depot", "--uses", "100")["token"]
    with Pod(root, "pod", DREAMER_JOIN_TOKEN=depot, DREAMER_WORKER_GRACE_S="120") as pod:
        source = team.model("trained", 8 * MIB)
        before = stored_bytes(team)
        with watch.origin_frozen():
            begun = pod.begin("push", str(source), "--room", "depot")
            until(lambda: pod.dreamer("status")["uploads"]["waiting"] == 1, "an upload")
            pod.process.terminate()
            until(lambda: "before it ends this node uploads 1 models" in pod.log(), "a word")
            assert pod.try_dreamer("ready").status == 1
            assert pod.process.running
        assert pod.process.wait(WAIT_S) == 0
        begun.communicate(timeout=WAIT_S)
    assert stored_bytes(team) - before >= 8 * MIB
    assert pod.left_over() == []


def test_uploads_that_do_not_fit_the_grace_period_are_said_and_kept(team, keeper, watch, root):
    depot = keeper.dreamer("room", "invite", "depot", "--uses", "100")["token"]
    env = {"DREAMER_JOIN_TOKEN": depot, "DREAMER_WORKER_GRACE_S": "11"}
    with Pod(root, "pod", **env) as pod:
        source = team.model("unlucky", 4 * MIB)
        with watch.origin_frozen(), pod.begin("push", str(source), "--room", "depot") as begun:
            until(lambda: pod.dreamer("status")["uploads"]["waiting"] == 1, "an upload")
            pod.process.terminate()
            assert pod.process.wait(WAIT_S) == LEFT
            begun.communicate(timeout=WAIT_S)
        assert "not uploaded: unlucky to room depot" in pod.log()
        assert "terminationGracePeriodSeconds" in pod.log()
        (home,) = pod.left_over()
        # Started there again it goes on.
        before = stored_bytes(team)
        pod.start()
        until(lambda: pod.dreamer("status")["uploads"]["waiting"] == 0, "the rest")
        assert stored_bytes(team) - before >= 4 * MIB
        assert pod.process.stop() == 0
    assert not home.exists()


def test_second_signal_ends_it_at_once(team, keeper, watch, root):
    depot = keeper.dreamer("room", "invite", "depot", "--uses", "100")["token"]
    with Pod(root, "pod", DREAMER_JOIN_TOKEN=depot, DREAMER_WORKER_GRACE_S="3600") as pod:
        source = team.model("hurried", 2 * MIB)
        with watch.origin_frozen(), pod.begin("push", str(source), "--room", "depot") as begun:
            until(lambda: pod.dreamer("status")["uploads"]["waiting"] == 1, "an upload")
            pod.process.terminate()
            until(lambda: "before it ends" in pod.log(), "a word")
            pod.process.send(signal.SIGTERM)
            assert pod.process.wait(WAIT_S) == LEFT
            begun.communicate(timeout=WAIT_S)


# Persistent workers


def test_persistent_node_seeds_and_keeps_its_home(team, keeper, root):
    push(keeper, team.model("shared", MIB), "shared")
    node = team.member("stays", keeper)
    node.dreamer("pull", "shared")
    assert node.dreamer("status")["worker"]["kind"] == "persistent"
    keeper.dreamer("rm", "shared")
    other = team.member("taker", keeper)
    receipt = other.dreamer("pull", "shared")
    assert receipt["peers"] == {node.dreamer("status")["node_id"]: MIB}
    assert node.process.stop() == 0
    assert (node.home / "identity" / "node.key").exists()
