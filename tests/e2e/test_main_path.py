"""What works, by command: as a user would do it, one after the other, on real processes."""

from __future__ import annotations

import json
import re
import stat
import subprocess
from pathlib import Path

import pytest

from dreamer.daemon.client import Dreamer
from dreamer.daemon.ports import PullReceipt
from dreamer.simulations.loopback import program

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

MIB = 2**20
SIZES = (3 * MIB + 17, 5, 2 * MIB)
SIZE = sum(SIZES)


@pytest.fixture(scope="module")
def pushed(team, lab):
    """A model of three files, pushed by A to lab with an alias and a tag."""
    source = team.model("tiny", *SIZES)
    receipt = lab[0].dreamer(
        *("push", str(source), "--room", "lab"),
        *("--alias", "production", "--tag", "validated", "--tag", "small"),
    )
    return source, receipt


@pytest.fixture(scope="module")
def pulled(lab, pushed):
    """B's receipt for its first pull of that model."""
    return lab[1].dreamer("pull", "production", "--room", "lab")


def human(node, *words):
    answer = node.try_dreamer(*words)
    assert answer.status == 0, answer.err
    return answer.out


@pytest.mark.parametrize("command", ["dreamer", "dreamerd", "dreamer-tracker"])
def test_every_command_explains_itself(command):
    done = subprocess.run(
        [program(command), "--help"], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.lower().startswith("usage:") or "Usage:" in done.stdout
    assert done.stderr == ""


def test_default_config_can_be_read_back(tmp_path, team):
    text = subprocess.run(
        [program("dreamerd"), "--print-default-config"], capture_output=True, timeout=30, check=True
    ).stdout
    home = team.root / "D"
    home.mkdir()
    (home / "config.toml").write_bytes(text)
    with_all_keys = team.node("D")
    assert with_all_keys.dreamer("status")["rooms"] == []


def test_rooms_are_listed_on_every_member(lab):
    for node in lab:
        rooms = {room["name"]: room for room in node.dreamer("room", "list")["rooms"]}
        assert set(rooms) == {"lab", "depot"}
        assert all(room["connected"] for room in rooms.values())
        assert rooms["lab"]["origin"] is None
        assert rooms["depot"]["origin"].startswith("s3://")


def test_invite_prints_the_token_alone(lab):
    assert re.fullmatch(r"dreamer1\.[\w-]+\n", human(lab[0], "room", "invite", "lab"))


def test_push_prints_id_and_short_id(lab, pushed):
    source, receipt = pushed
    assert receipt["short_id"] == receipt["manifest_id"][:8]
    assert (receipt["size_bytes"], receipt["files"]) == (SIZE, 3)
    said = human(lab[0], "push", str(source), "--room", "lab")
    assert receipt["manifest_id"] in said
    assert receipt["short_id"] in said


def test_pull_takes_every_byte_from_the_peer(lab, pushed, pulled, watch):
    assert pulled["bytes"] == {
        "cache": 0, "direct": 0, "webrtc": SIZE, "relay": 0, "torrent": 0, "origin": 0,
    }  # fmt: skip
    assert pulled["peers"] == {lab[0].dreamer("status")["node_id"]: SIZE}
    assert pulled["manifest_id"] == pushed[1]["manifest_id"]
    assert pulled["seconds"] > 0
    assert pulled["lane_seconds"]["webrtc"] > 0
    assert pulled["blamed"] == []
    assert watch.content(Path(pulled["path"])) == watch.content(pushed[0])


@pytest.mark.parametrize("ref", ["production", "tag:validated", "PREFIX"])
def test_second_pull_is_instant_and_moves_nothing(lab, pulled, watch, ref):
    ref = pulled["manifest_id"][:6] if ref == "PREFIX" else ref
    again = lab[1].dreamer("pull", ref, "--room", "lab")
    assert watch.moved(again) == 0
    assert again["bytes"]["cache"] == SIZE
    assert again["path"] == pulled["path"]
    assert again["seconds"] < 1.0


def test_pull_lays_the_model_out_where_it_is_told(lab, pushed, pulled, tmp_path, watch):
    place = tmp_path / "deep" / "here"
    receipt = lab[1].dreamer("pull", "production", "--room", "lab", "--output", str(place))
    assert receipt["path"] == str(place)
    assert watch.content(place) == watch.content(pushed[0])


def test_a_single_file_can_be_pushed_and_pulled(team, lab, watch):
    a, b, _ = lab
    file = team.root / "weights.gguf"
    file.write_bytes(bytes(range(256)) * 5000)
    pushed = a.dreamer("push", str(file), "--room", "lab", "--name", "just-one")
    receipt = b.dreamer("pull", pushed["short_id"], "--room", "lab")
    assert receipt["name"] == "just-one"
    assert list(watch.content(Path(receipt["path"])).values()) == [file.read_bytes()]


def test_push_to_a_room_with_an_origin_uploads(team, lab):
    source = team.model("for-depot", 2 * MIB)
    receipt = lab[0].dreamer("push", str(source), "--room", "depot", "--alias", "kept")
    assert receipt["uploaded"] >= 2 * MIB
    assert receipt["origin"].startswith("s3://")
    pulled = lab[1].dreamer("pull", "kept", "--room", "depot")
    assert (pulled["bytes"]["webrtc"], pulled["bytes"]["origin"]) == (2 * MIB, 0)


def test_models_say_what_there_is_and_where(lab, pulled):
    for node, local in ((lab[1], True), (lab[2], False)):
        models = {m["manifest_id"]: m for m in node.dreamer("models", "--room", "lab")["models"]}
        model = models[pulled["manifest_id"]]
        assert model["aliases"] == ["production"]
        assert sorted(model["tags"]) == ["small", "validated"]
        assert (model["size_bytes"], model["files"]) == (SIZE, 3)
        assert model["local"] is local
        assert model["on_nodes"] == 2
    table = human(lab[1], "models")
    assert pulled["short_id"] in table
    assert "production" in table


def test_aliases_move_and_go(team, lab, pulled):
    a, b, _ = lab
    other = a.dreamer("push", str(team.model("other", 4096)), "--room", "lab")
    for target in (pulled["short_id"], other["short_id"]):
        moved = b.dreamer("alias", "set", "canary", target, "--room", "lab")
        assert moved["short_id"] == target
    assert a.dreamer("pull", "canary", "--room", "lab")["short_id"] == other["short_id"]
    a.dreamer("alias", "rm", "canary", "--room", "lab")
    assert b.try_dreamer("pull", "canary", "--room", "lab").status == 1


def test_tags_come_and_go(lab, pulled):
    a, b, _ = lab
    a.dreamer("tag", "add", "production", "fast", "--room", "lab")
    assert b.dreamer("pull", "tag:fast", "--room", "lab")["short_id"] == pulled["short_id"]
    left = b.dreamer("tag", "rm", "production", "fast", "--room", "lab")
    assert "fast" not in left["tags"]
    assert a.try_dreamer("pull", "tag:fast", "--room", "lab").status == 1


def test_peers_and_status_say_how_it_is(lab, pulled):
    a, b, c = lab
    names = {peer["name"] for peer in b.dreamer("peers", "--room", "lab")["peers"]}
    assert names == {"A", "C"}
    linked = {peer["name"]: peer for peer in b.dreamer("peers", "--room", "lab")["peers"] if peer["linked"]}
    assert linked["A"]["lane"] == "webrtc"
    assert linked["A"]["bytes_down"] >= SIZE
    status = c.dreamer("status")
    assert status["name"] == "C"
    assert len(status["node_id"]) == 64
    assert {room["name"] for room in status["rooms"]} == {"lab", "depot"}
    assert "A" in human(b, "peers")
    assert "node_id" in human(b, "status")


def test_rm_frees_the_copy_and_pull_brings_it_back(team, lab, watch):
    a, b, _ = lab
    source = team.model("goes", 2 * MIB)
    pushed = a.dreamer("push", str(source), "--room", "lab")
    first = b.dreamer("pull", pushed["short_id"], "--room", "lab")
    freed = b.dreamer("rm", pushed["short_id"], "--room", "lab")
    assert freed["freed_bytes"] >= 2 * MIB
    assert not Path(first["path"]).exists()
    again = b.dreamer("pull", pushed["short_id"], "--room", "lab")
    assert watch.moved(again) == 2 * MIB


@pytest.mark.parametrize("place", ["before", "after"])
def test_json_is_one_document_wherever_the_option_stands(lab, pulled, place):
    for words in (
        ["room", "list"],
        ["models"],
        ["peers"],
        ["status"],
        ["pull", "production", "--room", "lab"],
        ["alias", "set", "steady", "production", "--room", "lab"],
        ["tag", "add", "production", "small", "--room", "lab"],
    ):
        argv = ["--json", *words] if place == "before" else [*words, "--json"]
        answer = lab[1].try_dreamer(*argv)
        assert answer.status == 0, answer.err
        assert isinstance(json.loads(answer.out), dict)


def test_failure_under_json_is_a_document_too(lab):
    answer = lab[1].try_dreamer("pull", "nothing-like-it", "--room", "lab", "--json")
    assert answer.status == 1
    assert json.loads(answer.out)["error"]["code"] == "no_match"


def test_human_pull_ends_with_the_receipt(lab, pushed, pulled):
    answer = lab[2].try_dreamer("pull", "production", "--room", "lab")
    assert answer.status == 0
    assert "pull: fetch" in answer.err
    assert pulled["short_id"] in answer.out
    assert "webrtc" in answer.out
    assert "5.0 MiB" in answer.out


def test_python_client_pulls_to_a_path(lab, pushed, pulled, watch):
    seen = []
    with_daemon = Dreamer(lab[2].home)
    path = with_daemon.pull("production", room="lab", progress=seen.append)
    assert watch.content(path) == watch.content(pushed[0])
    assert {progress.phase for progress in seen} >= {"finish"}
    receipts = [e for e in with_daemon.pull_events("tag:small", "lab") if type(e) is PullReceipt]
    assert [receipt.path for receipt in receipts] == [str(path)]
    assert {model.short_id for model in with_daemon.models("lab")} >= {pulled["short_id"]}


def test_secrets_and_the_socket_are_the_owners_alone(lab):
    for node in lab:
        for name in ("run/dreamerd.sock", "identity/node.key"):
            assert stat.S_IMODE((node.home / name).stat().st_mode) == 0o600
        for secret in (node.home / "identity" / "rooms").iterdir():
            assert stat.S_IMODE(secret.stat().st_mode) == 0o600
