"""What works, by command: as a user would do it, one after the other, on real processes."""

from __future__ import annotations

import http.client
import json
import re
import socket
import subprocess
from contextlib import closing
from pathlib import Path

import pytest

from dreamer.daemon.client import Dreamer
from dreamer.daemon.ports import PullReceipt
from dreamer.protocol.topology import from_json, to_json
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
        [program(command), "--help"], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.lower().startswith("usage:") or "Usage:" in done.stdout
    assert done.stderr == ""


def test_default_config_can_be_read_back(tmp_path, team):
    text = subprocess.run(
        [program("dreamerd"), "--print-default-config"], capture_output=True, timeout=60, check=True
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
        "cache": 0, "direct": SIZE, "webrtc": 0, "relay": 0, "torrent": 0, "origin": 0,
    }  # fmt: skip
    assert pulled["peers"] == {lab[0].dreamer("status")["node_id"]: SIZE}
    assert pulled["manifest_id"] == pushed[1]["manifest_id"]
    assert pulled["seconds"] > 0
    assert pulled["lane_seconds"]["direct"] > 0
    assert pulled["blamed"] == []
    assert watch.content(Path(pulled["path"])) == watch.content(pushed[0])


def test_topology_knows_the_link_and_who_shares_the_model(lab, pulled):
    a, b, _ = lab
    found = b.dreamer("export", "topology", "--room", "lab")
    assert json.loads(json.dumps(to_json(from_json(found)))) == found
    ours, theirs = (one.dreamer("status")["node_id"][:8] for one in (b, a))
    assert found["node"]["id"] == ours
    (link,) = [one["link"] for one in found["members"] if one["id"] == theirs]
    assert link["lane"] in ("direct", "webrtc")
    (model,) = [one for one in found["models"] if one["id"] == pulled["short_id"]]
    assert (model["here_bytes"], model["size_bytes"]) == (SIZE, SIZE)
    assert theirs in model["sharers"]
    assert theirs in model["whole"]


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
    assert (pulled["bytes"]["direct"], pulled["bytes"]["origin"]) == (2 * MIB, 0)


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
    _, b, c = lab
    peers = {peer["name"]: peer for peer in b.dreamer("peers", "--room", "lab")["peers"]}
    assert set(peers) == {"A", "C"}
    assert peers["A"]["linked"]
    assert peers["A"]["lane"] == "direct"
    assert peers["A"]["bytes_down"] >= SIZE
    status = c.dreamer("status")
    assert status["name"] == "C"
    assert len(status["node_id"]) == 64
    assert {room["name"] for room in status["rooms"]} == {"lab", "depot"}
    assert "A" in human(b, "peers")
    assert "node id" in human(b, "status")


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
    assert "pull: finish" in answer.err
    assert pulled["short_id"] in answer.out
    assert "direct" in answer.out
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


# Over REST, by what any program can speak


class OverTheSocket(http.client.HTTPConnection):
    """HTTP over a daemon's Unix socket, with nothing of Dreamer in it."""

    def __init__(self, node):
        super().__init__("dreamerd", timeout=60)
        self._path = str(node.home / "run" / "dreamerd.sock")

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(self._path)


def rest(node, method, path, body=None, accept="application/json"):
    with closing(OverTheSocket(node)) as connection:
        headers = {"Accept": accept}
        if body is not None:
            headers["Content-Type"] = "application/json"
        data = None if body is None else json.dumps(body)
        connection.request(method, f"/dreamer/v1{path}", data, headers)
        with closing(connection.getresponse()) as answer:
            return answer.status, answer.headers.get_content_type(), answer.read().decode()


def test_rest_says_what_the_commands_say(lab, pulled):
    for path, key in (("/rooms", "rooms"), ("/models?room=lab", "models"), ("/peers", "peers")):
        status, kind, text = rest(lab[1], "GET", path)
        assert (status, kind) == (200, "application/json")
        assert json.loads(text)[key]
    assert json.loads(rest(lab[1], "GET", "/status")[2])["name"] == "B"


def test_rest_streams_progress_as_events(lab, pushed, pulled):
    lab[2].try_dreamer("rm", "production", "--room", "lab")
    status, kind, text = rest(
        *(lab[2], "POST", "/pull", {"ref": "production", "room": "lab"}, "text/event-stream")
    )
    assert (status, kind) == (200, "text/event-stream")
    events = [
        dict(line.split(": ", 1) for line in block.splitlines())
        for block in text.strip().split("\n\n")
        if not block.startswith(":")
    ]
    names = [event["event"] for event in events]
    assert names[-1] == "receipt"
    assert set(names[:-1]) == {"progress"}
    receipt = json.loads(events[-1]["data"])
    assert receipt["bytes"]["direct"] == SIZE
    assert Path(receipt["path"]).is_dir()


def test_rest_without_events_answers_with_the_receipt_alone(lab, pulled):
    status, _, text = rest(lab[1], "POST", "/pull", {"ref": "tag:validated", "room": "lab"})
    assert (status, json.loads(text)["bytes"]["cache"]) == (200, SIZE)


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "code"),
    [
        ("POST", "/pull", {"ref": "absent", "room": "lab"}, 404, "no_match"),
        ("POST", "/pull", {"reff": "production"}, 400, "bad_input"),
        ("POST", "/rooms/join", {"token": "dreamer1.x"}, 400, "bad_input"),
        ("GET", "/nothing", None, 404, "http_404"),
        ("PUT", "/pull", {}, 405, "http_405"),
    ],
)
def test_rest_failures_have_a_code_and_a_line(lab, method, path, body, status, code):
    answered, _, text = rest(lab[1], method, path, body)
    error = json.loads(text)["error"]
    assert (answered, error["code"]) == (status, code)
    assert error["message"]
    assert "\n" not in error["message"]
