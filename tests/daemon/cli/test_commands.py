import json
import sys
from dataclasses import dataclass, replace
from types import SimpleNamespace

import pytest

from dreamer.daemon.cli.entry import run
from dreamer.daemon.cli.plain_text import duration_s, printable, size
from dreamer.daemon.client import Dreamer
from dreamer.daemon.ports import TrackerInfo
from dreamer.daemon.surfaces.pushing import PushRequest
from dreamer.protocol.errors import InputError
from dreamer.protocol.registry.provenance import Provenance

WAIT_S = 10.0


@pytest.fixture
def dreamer(served, capsys):
    """Runs one command line in this process; returns status, stdout and stderr."""

    def call(*words):
        status = run(["--home", str(served.home), *words])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


def test_pull_shows_progress_on_stderr_and_ends_with_the_receipt(dreamer, served):
    status, out, err = dreamer("pull", "prod", "--room", "lab", "--output", "/out")
    assert status == 0
    assert served.node.calls == [("pull", "prod", "lab", served.node.calls[0][3])]
    assert "tiny abababab is at /out" in out
    assert out.split("\n")[2].split() == ["webrtc", "3.0", "MiB", "1.0", "s", "3.0", "MiB/s"]
    assert "3.0 MiB moved in 1.5 s, from 1 peer" in out
    assert "pull: fetch 1.0 MiB of 3.0 MiB, 1.0 MiB/s, 2 s left, webrtc 1.0 MiB, half-way" in err


def test_torrent_names_hashes_link_and_file(dreamer, served):
    status, out, _ = dreamer("torrent", "prod", "--output", "/out.torrent")
    assert status == 0
    assert "1a" * 20 in out
    assert "2b" * 32 in out
    assert "magnet:?xt=urn:btih:" in out
    assert "torrent file: /out.torrent" in out
    assert "private" in out


def test_torrent_as_json_is_one_document(dreamer):
    status, out, _ = dreamer("torrent", "prod", "--json")
    receipt = json.loads(out)
    assert (status, receipt["public"], receipt["info_hash_v1"]) == (0, False, "1a" * 20)


def test_pull_as_json_is_one_document(dreamer):
    status, out, err = dreamer("pull", "prod", "--json")
    value = json.loads(out)
    assert (status, value["manifest_id"], value["seconds"]) == (0, "ab" * 32, 1.5)
    assert list(value["bytes"]) == ["cache", "direct", "webrtc", "relay", "torrent", "origin"]
    assert "pull: fetch" in err


def test_push_takes_several_aliases_and_tags(dreamer, served, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["--alias", "a", "--alias", "b", "--tag", "t", "--name", "n"]
    status, out, err = dreamer("push", "tiny", "--room", "lab", *words)
    wanted = PushRequest(tmp_path / "tiny", ("a", "b"), ("t",), "n")
    assert (status, served.node.calls) == (0, [("push", "lab", wanted)])
    assert "ab" * 32 in out
    assert "published n to lab: abababab" in out
    assert "push: hash 1 B of 2 B" in err


def test_pickles_are_pushed_only_when_asked_for(dreamer, served):
    assert dreamer("push", "tiny", "--room", "lab", "--allow-pickle")[0] == 0
    request = served.node.calls[0][-1]
    assert (request.allow_pickle, request.public) == (True, False)


def test_models_are_public_only_when_asked_for(dreamer, served):
    assert dreamer("push", "tiny", "--room", "lab", "--public")[0] == 0
    request = served.node.calls[0][-1]
    assert (request.allow_pickle, request.public) == (False, True)


def test_push_waits_for_as_much_as_it_is_told(dreamer, served):
    for words in ([], ["--wait-origin"], ["--no-wait"]):
        assert dreamer("push", "tiny", "--room", "lab", *words)[0] == 0
    assert [call[-1].wait for call in served.node.calls] == ["try", "done", "no"]
    status, _, err = dreamer("push", "tiny", "--room", "lab", "--wait-origin", "--no-wait")
    assert status != 0
    assert "contradict" in err


def test_push_says_where_a_model_comes_from(dreamer, served):
    said = ["--trained-by", "anna", "--metric", "loss=3e-2", "--metric", "bleu=31"]
    said += ["--config", "epochs=3", "--config", "data=a=b", "--config", "ema=true"]
    words = [*said, "--trained-from", "prod", "--trained-from", "cafe", "--note", "good"]
    assert dreamer("push", "tiny", "--room", "lab", *words)[0] == 0
    request = served.node.calls[0][-1]
    assert (request.trained_from, request.notes) == (("prod", "cafe"), "good")
    assert request.provenance == Provenance(
        "anna",
        config={"epochs": 3, "data": "a=b", "ema": True},
        metrics={"loss": 0.03, "bleu": 31.0},
    )


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--metric", "loss"], "NAME=VALUE"),
        (["--metric", "=3"], "NAME=VALUE"),
        (["--metric", "loss=low"], "must be a number"),
        (["--metric", "loss=nan"], "finite"),
        (["--config", "e"], "NAME=VALUE"),
    ],
)
def test_provenance_that_makes_no_sense_is_refused(dreamer, served, words, part):
    status, _, err = dreamer("push", "tiny", "--room", "lab", *words)
    assert (status, served.node.calls) == (1, [])
    assert part in err


def test_run_streams_text_to_stdout_and_who_ran_it_to_stderr(dreamer, served):
    status, out, err = dreamer("run", "prod", "hi", "--where", "peer", "--max-tokens", "7")
    assert (status, out) == (0, "Hello wörld\N{REPLACEMENT CHARACTER}[31m\n")
    assert "running on other (efefefef, peer)" in err
    assert "3 tokens in 0.4 s" in err
    _, model, request, options = served.node.inference.asked[0]
    assert (model, options.prefer) == ("prod", "peer")
    assert (request.max_tokens, request.prompt) == (7, "hi")


def test_run_as_json_is_one_document(dreamer):
    status, out, _ = dreamer("run", "prod", "hi", "--json")
    value = json.loads(out)
    assert (status, value["text"], value["where"]) == (0, "Hello wörld\x1b[31m", "peer")
    assert (value["node_name"], value["finish_reason"]) == ("other", "stop")
    assert (value["prompt_tokens"], value["completion_tokens"]) == (5, 3)


def test_run_that_breaks_half_way_fails_with_one_line(dreamer):
    status, out, err = dreamer("run", "breaks", "hi")
    assert (status, out) == (1, "Hello ")
    assert err.splitlines()[-1] == "dreamer: the peer went away; run it again"


def test_invitation_is_the_token_alone(dreamer, served):
    status, out, _ = dreamer("room", "invite", "lab", "--expires", "30m", "--uses", "3")
    assert (status, out) == (0, "dreamer1-token\n")
    roles = ["--role", "worker", "--role", "member", "--json"]
    assert json.loads(dreamer("room", "invite", "lab", *roles)[1]) == {"token": "dreamer1-token"}
    assert served.node.calls == [
        ("invite", "lab", ["member", "publisher"], 1800.0, 3),
        ("invite", "lab", ["worker", "member"], 86400.0, 1),
    ]


def test_rooms_are_made_joined_listed_and_left(dreamer, served):
    words = ["--tracker", "http://t", "--tracker", "http://u", "--origin", "s3://b/p"]
    status, out, _ = dreamer("room", "create", "new", *words, "--endpoint-url", "http://s3")
    assert status == 0
    assert out == (
        "created room new (cdcdcdcd)\nmembers meet at http://t\nmembers meet at http://u\n"
    )
    assert served.node.calls == [
        ("create_room", "new", ["http://t", "http://u"], "s3://b/p", "http://s3")
    ]
    assert "joined room lab as member, publisher" in dreamer("room", "join", "dreamer1-token")[1]
    assert "connected" in dreamer("room", "list")[1]
    assert json.loads(dreamer("room", "list", "--json")[1])["rooms"][0]["name"] == "lab"
    assert dreamer("room", "leave", "lab")[1] == "left room lab\n"


def test_rooms_say_how_many_of_their_trackers_are_there_and_what_is_wrong(dreamer, served):
    there, away = TrackerInfo("http://t", True), TrackerInfo("http://u", False, "it is closed")
    for states, shown in (
        ((there, there), " connected"),
        ((there, away), "1 of 2 connected"),
        ((away, away), "away"),
    ):
        connected = there in states
        served.node.room = replace(served.node.room, connected=connected, tracker_states=states)
        assert shown in dreamer("room", "list")[1]
    (room,) = json.loads(dreamer("room", "list", "--json")[1])["rooms"]
    error = {"url": "http://u", "connected": False, "error": "it is closed"}
    assert room["tracker_states"] == [error, error]
    assert Dreamer(served.home).rooms() == [served.node.room]


def test_a_member_is_removed_from_a_room(dreamer, served):
    assert (
        dreamer("room", "remove", "lab", "1a2b3c4d")[1] == "removed node 1a2b3c4d from room lab\n"
    )
    assert served.node.calls == [("remove_member", "lab", "1a2b3c4d")]
    out = dreamer("room", "remove", "lab", "1a2b3c4d", "--json")[1]
    assert json.loads(out) == {"removed": "1a2b3c4d" + "0" * 56}


def test_room_at_the_daemons_own_tracker_asks_to_check_its_address(dreamer):
    _, out, _ = dreamer("room", "create", "new")
    assert "check that other machines reach this address" in out
    assert "--tracker URL" in out


def test_models_and_peers_are_tables_or_json(dreamer):
    row = dreamer("models")[1].splitlines()[1].split()
    assert row[:6] == ["abababab", "tiny", "prod", "validated", "3.0", "MiB"]
    assert json.loads(dreamer("models", "--json")[1])["models"][0]["on_nodes"] == 2
    assert "other[red]" in dreamer("peers")[1]
    assert json.loads(dreamer("peers", "--room", "lab", "--json")[1])["peers"][0]["linked"]


def test_names_are_changed_and_copies_removed(dreamer, served):
    assert dreamer("alias", "set", "next", "prod")[1] == "next means abababab\n"
    assert dreamer("alias", "rm", "next", "--room", "lab")[1] == "removed alias next\n"
    assert "tags: validated, a, b" in dreamer("tag", "add", "prod", "a", "b")[1]
    assert "tags: validated, b" in dreamer("tag", "rm", "prod", "a")[1]
    assert dreamer("rm", "prod")[1] == "freed 3.0 MiB\n"
    assert json.loads(dreamer("rm", "prod", "--json")[1]) == {"freed_bytes": 3 * 2**20}
    assert served.node.calls[0] == ("set_alias", None, "next", "prod")


def test_status_is_readable(dreamer):
    out = dreamer("status")[1]
    assert "name: memory" in out
    assert "\n  bytes: 5\n" in out


@pytest.mark.parametrize("place", [0, 1, 2, 3])
def test_home_and_json_go_anywhere(served, capsys, place):
    words = ["room", "list"]
    options = ["--json", "--home", str(served.home)]
    argv = {
        0: [*options, *words],
        1: ["room", *options, "list"],
        2: [*words, *options],
        3: ["--json", "room", "list", "--home", str(served.home)],
    }[place]
    assert run(argv) == 0
    assert json.loads(capsys.readouterr().out)["rooms"][0]["name"] == "lab"


@pytest.mark.parametrize(
    "command",
    [["pull", "missing"], ["torrent", "missing"], ["rm", "missing"], ["run", "missing", "x"]],
)
def test_failure_is_one_line_and_status_1(dreamer, command):
    status, out, err = dreamer(*command)
    assert (status, out) == (1, "")
    lines = [line for line in err.splitlines() if line.startswith("dreamer: ")]
    assert lines == ["dreamer: no model is called 'missing'; 'dreamer models' lists what there is"]


def test_failure_as_json_is_one_document(dreamer):
    status, out, _ = dreamer("pull", "several", "--json")
    assert status == 1
    assert json.loads(out) == {
        "error": {"code": "ambiguous", "message": "'several' names 2 models"}
    }


def test_no_daemon_says_how_to_start_one(tmp_path, capsys):
    assert run(["models", "--home", str(tmp_path)]) == 1
    assert f"start it with: dreamerd --home {tmp_path}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["pul"], "No such command 'pul'"),
        (["pull"], "Missing argument"),
        (["pull", "a", "--rom", "b"], "No such option"),
        (["room", "invite", "lab", "--uses", "0"], "--uses"),
        (["run", "a", "b", "--where", "moon"], "--where"),
        (["run", "a", "b", "--max-tokens", "0"], "--max-tokens"),
    ],
)
def test_misuse_is_one_line_and_status_2(capsys, argv, message):
    assert run(argv) == 2
    err = capsys.readouterr().err
    assert err.startswith("dreamer: ")
    assert message in err
    assert "--help" in err
    assert err.count("\n") == 1
    assert run([*argv, "--json"]) == 2
    assert json.loads(capsys.readouterr().out)["error"]["code"] == "usage"


def test_impossible_duration_is_refused(dreamer):
    status, _, err = dreamer("room", "invite", "lab", "--expires", "tomorrow")
    assert (status, err) == (
        1,
        "dreamer: 'tomorrow' is no duration: write it like 30m, 24h or 7d\n",
    )


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("30m", 1800), ("24h", 86400), ("7d", 604800), ("1.5h", 5400)],
)
def test_durations(text, seconds):
    assert duration_s(text) == seconds


@pytest.mark.parametrize("text", ["", "0h", "h", "-1h", "1", "1y", "1h30m", "٣h", "inf"])
def test_no_duration(text):
    with pytest.raises(InputError, match="write it like"):
        duration_s(text)


def test_sizes():
    assert [size(count) for count in (0, 1023, 1024, 1.5 * 2**30, 2**52)] == [
        "0 B",
        "1023 B",
        "1.0 KiB",
        "1.5 GiB",
        "4096.0 TiB",
    ]


def test_words_of_others_cannot_command_the_terminal():
    assert (
        printable("a\x1b]0;x\x07\r\nb\tc")
        == "a\N{REPLACEMENT CHARACTER}]0;x\N{REPLACEMENT CHARACTER}\N{REPLACEMENT CHARACTER}\nb\tc"
    )


def test_help_lists_every_command(capsys):
    assert run(["--help"]) == 0
    text = capsys.readouterr().out
    for name in (
        "import",
        "room",
        "push",
        "pull",
        "models",
        "peers",
        "status",
        "connect",
        "alias",
        "tag",
        "rm",
        "run",
    ):
        assert f"\n  {name} " in text
    assert run([]) == 0
    assert "Commands:" in capsys.readouterr().out


def test_import_shows_progress_and_what_was_made(capsys, tmp_path, monkeypatch):
    @dataclass(frozen=True)
    class Report:
        architecture: str
        parameters: int

    def import_gguf(source, output, progress):
        progress("weights", 2**20, 2**21)
        if source.name == "bad.gguf":
            raise InputError("bad.gguf is of architecture 'mamba', which can't be imported")
        return Report("llama", 5)

    module = SimpleNamespace(import_gguf=import_gguf)
    monkeypatch.setitem(sys.modules, "dreamer.daemon.inference.gguf", module)
    assert run(["import", "m.gguf", "--output", str(tmp_path / "out"), "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"architecture": "llama", "parameters": 5}
    assert captured.err == "import: weights 1.0 MiB of 2.0 MiB\n"
    assert run(["import", "bad.gguf", "--output", str(tmp_path / "out")]) == 1
    assert "dreamer: bad.gguf is of architecture 'mamba'" in capsys.readouterr().err


def test_topology_goes_to_stdout_as_the_document_alone(dreamer, served):
    status, out, err = dreamer("export", "topology", "--room", "lab")
    assert (status, json.loads(out)["version"], err) == (0, 1, "")
    assert served.node.calls == [("topology", "lab")]


def test_topology_goes_to_a_file_that_is_named(dreamer, tmp_path):
    file = tmp_path / "room.json"
    status, out, _ = dreamer("export", "topology", "--output", str(file))
    assert (status, json.loads(file.read_text())["kind"]) == (0, "dreamer.topology")
    assert "2 members, 1 models" in " ".join(out.split())
    status, _, err = dreamer("export", "topology", "--output", str(tmp_path / "no" / "x.json"))
    assert (status, "choose another FILE" in err) == (1, True)
