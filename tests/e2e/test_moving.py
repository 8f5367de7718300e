"""How bytes move: resumed, from several peers, from the origin, or from the disk itself."""

from __future__ import annotations

import json
import signal
from contextlib import closing
from pathlib import Path

import pytest

from dreamer.daemon.client import Dreamer
from dreamer.daemon.ports import Progress
from dreamer.simulations.loopback import until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

MIB = 2**20
LARGE = 40 * MIB
STARTED = 4 * MIB
WAIT_S = 90.0


@pytest.fixture(scope="module")
def large(team, lab):
    """A model that takes a few seconds to move, in both rooms."""
    source = team.model("large", LARGE - 3 * MIB, 3 * MIB)
    for room in ("lab", "depot"):
        lab[0].dreamer("push", str(source), "--room", room, "--alias", "large")
    return source


@pytest.fixture
def learner(team, lab, request):
    """A fresh member of both rooms that stops with the test."""
    name = f"L{abs(hash(request.node.name)) % 10**6}"
    node = team.member(name, lab[0])
    team.join(node, lab[0], "depot")
    yield node
    if node.process.running:
        node.process.stop()


def finish(pull):
    out, err = pull.communicate(timeout=WAIT_S)
    assert pull.returncode == 0, out + err
    return json.loads(out)


def counted_once(receipt):
    """Every byte came from somebody or was here; a block asked of two at once may count twice."""
    total = sum(receipt["bytes"].values()) + receipt["resumed"]
    assert abs(total - LARGE) <= 4 * MIB, receipt
    assert receipt["size_bytes"] == LARGE


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_pull_goes_on_where_its_command_was_ended(learner, large, watch, number):
    with learner.begin("pull", "large", "--room", "lab") as first:
        watch.pulling(learner, STARTED)
        first.send_signal(number)
        out, err = first.communicate(timeout=WAIT_S)
    assert out == ""
    if number is signal.SIGINT:
        assert first.returncode == 130
        assert err.splitlines()[-1].startswith("dreamer: interrupted; to go on, run again: dreamer")
    second = learner.dreamer("pull", "large", "--room", "lab")
    assert second["resumed"] >= MIB
    counted_once(second)
    assert watch.content(Path(second["path"])) == watch.content(large)


def test_pull_goes_on_where_the_daemon_was_killed(learner, large, watch):
    with learner.begin("pull", "large", "--room", "lab") as first:
        watch.pulling(learner, STARTED)
        learner.process.kill()
        _, err = first.communicate(timeout=WAIT_S)
    assert first.returncode == 1
    assert err.splitlines()[-1].startswith("dreamer: ")
    learner.start()
    second = learner.dreamer("pull", "large", "--room", "lab")
    assert second["resumed"] >= MIB
    counted_once(second)
    assert watch.content(Path(second["path"])) == watch.content(large)


def test_peer_that_leaves_half_way_is_replaced_by_another(team, lab, large, learner, watch):
    leaver = team.member("leaver", lab[0])
    leaver.dreamer("pull", "large", "--room", "lab")
    with learner.begin("pull", "large", "--room", "lab", "--json") as pull:
        watch.pulling(learner, STARTED)
        leaver.process.kill()
        receipt = finish(pull)
    ids = {node.dreamer("status")["node_id"]: node.home.name for node in (lab[0],)}
    names = {ids.get(node, "leaver") for node in receipt["peers"]}
    assert "A" in names
    counted_once(receipt)
    assert receipt["bytes"]["origin"] == 0
    assert watch.content(Path(receipt["path"])) == watch.content(large)


def test_pull_takes_from_the_origin_alone_when_nobody_is_there(team, watch):
    keeper = team.node("keeper")
    team.room(keeper, "lonely", origin=True)
    source = team.model("stored", 5 * MIB, 70)
    keeper.dreamer("push", str(source), "--room", "lonely", "--alias", "stored")
    reader = team.member("reader", keeper, room="lonely")
    keeper.process.stop()
    watch.without(reader, keeper)
    receipt = reader.dreamer("pull", "stored", "--room", "lonely")
    assert receipt["bytes"]["origin"] == receipt["size_bytes"] == 5 * MIB + 70
    assert receipt["peers"] == {}
    assert watch.content(Path(receipt["path"])) == watch.content(source)
    reader.process.stop()


def test_origin_gives_what_no_peer_has(team, lab, large, watch):
    # Slow enough to be stopped half-way.
    slow = {"DREAMER_SHARING_DOWN_MBIT": "80", "DREAMER_SHARING_LAN_EXEMPT": "false"}
    half, rest = team.member("half", lab[0], room="depot", env=slow), team.node("rest")
    team.join(rest, lab[0], "depot")
    # The half that the peer will hold: what it had fetched when its pull was stopped.
    with closing(Dreamer(half.home).pull_events("large", "depot")) as events:
        for event in events:
            if isinstance(event, Progress) and event.done > STARTED:
                break
    lab[0].process.stop()
    try:
        watch.without(rest, lab[0])
        # While the origin is silent, the one has nothing but what the other holds.
        with watch.origin_frozen():
            first = half.begin("pull", "large", "--room", "depot", "--json")
            holders = Dreamer(rest.home)
            until(lambda: holders.models("depot")[0].on_nodes == 1, "the offer", WAIT_S)
            second = rest.begin("pull", "large", "--room", "depot", "--json")
            watch.pulling(rest, MIB)
        with first, second:
            receipts = [finish(first), finish(second)]
    finally:
        lab[0].start()
    for receipt in receipts:
        counted_once(receipt)
        assert receipt["bytes"]["origin"] > 0
        assert watch.content(Path(receipt["path"])) == watch.content(large)
    assert receipts[1]["bytes"]["direct"] >= MIB
    half.process.stop()
    rest.process.stop()


def test_origin_that_is_down_does_not_stop_peers(team, tmp_path, watch):
    from dreamer.simulations.loopback import s3_server

    keeper, reader = team.nodes("keeper2", "reader2")
    source = team.model("anyway", 3 * MIB)
    with s3_server(tmp_path / "s3.log", "passing") as endpoint:
        keeper.dreamer(
            *("room", "create", "shaky", "--tracker", team.tracker),
            *("--origin", "s3://passing/x", "--endpoint-url", endpoint),
        )
        keeper.dreamer("push", str(source), "--room", "shaky", "--alias", "anyway")
    team.join(reader, keeper, "shaky")
    receipt = reader.dreamer("pull", "anyway", "--room", "shaky")
    assert receipt["bytes"]["direct"] == 3 * MIB
    assert watch.content(Path(receipt["path"])) == watch.content(source)
    # A push says what is done and what is not, and what is not is done later.
    other = team.model("not-uploaded", MIB)
    pushed = keeper.dreamer("push", str(other), "--room", "shaky", "--alias", "half-done")
    assert pushed["origin_state"] == "queued"
    assert "can't be reached" in pushed["origin_error"]
    assert watch.moved(reader.dreamer("pull", "half-done", "--room", "shaky")) == MIB
    keeper.process.stop()
    reader.process.stop()


def test_content_that_is_here_under_another_name_is_not_fetched(team, lab, large, learner, watch):
    learner.dreamer("pull", "large", "--room", "lab")
    grown = team.model("grown", MIB)
    part = (large / "part-0.bin").read_bytes()
    (grown / "same.bin").write_bytes(part)
    lab[0].dreamer("push", str(grown), "--room", "lab", "--alias", "grown")
    receipt = learner.dreamer("pull", "grown", "--room", "lab")
    assert receipt["bytes"]["direct"] == MIB
    assert receipt["bytes"]["cache"] == len(part)


def test_models_live_where_models_dir_says_and_outlive_their_home(team, lab, large, watch):
    volume = team.root / "volume"
    env = {"MODELS_DIR": str(volume)}
    old = team.member("old", lab[0], env=env)
    first = old.dreamer("pull", "large", "--room", "lab")
    assert volume in Path(first["path"]).parents
    assert not (old.home / "models").exists()
    old.process.stop()
    new = team.member("new", lab[0], env=env)
    receipt = new.dreamer("pull", "large", "--room", "lab")
    assert watch.moved(receipt) == 0
    assert watch.content(Path(receipt["path"])) == watch.content(large)
    new.process.stop()


def test_two_pulls_of_one_model_share_the_work(learner, large, watch):
    commands = [learner.begin("pull", "large", "--room", "lab", "--json") for _ in range(2)]
    with commands[0], commands[1]:
        receipts = [finish(command) for command in commands]
    for receipt in receipts:
        assert watch.moved(receipt) <= LARGE + 4 * MIB
    until(lambda: watch.bytes_down(learner) >= LARGE, "the traffic count", WAIT_S)
    assert watch.bytes_down(learner) <= LARGE + 8 * MIB


def test_pull_works_offline_once_the_model_is_here(team, watch):
    from dreamer.simulations.loopback import tracker

    owner = team.node("owner")
    with tracker(team.root / "passing-tracker") as url:
        owner.dreamer("room", "create", "island", "--tracker", url)
        source = team.model("kept", MIB)
        owner.dreamer("push", str(source), "--room", "island", "--alias", "kept")
    until(lambda: not owner.dreamer("room", "list")["rooms"][0]["connected"], "the loss", WAIT_S)
    assert watch.moved(owner.dreamer("pull", "kept", "--room", "island")) == 0
    # Also after a restart, from what was remembered of the registry.
    owner.process.stop()
    owner.start()
    receipt = owner.dreamer("pull", "kept", "--room", "island")
    assert watch.content(Path(receipt["path"])) == watch.content(source)
    line = watch.one_line(owner.try_dreamer("push", str(source), "--room", "island"))
    assert "check that dreamer-tracker runs" in line
    owner.process.stop()
