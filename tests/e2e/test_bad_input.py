"""Input that can't be right: exit status, one clear line that says what to do, nothing broken."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from pathlib import Path

import pytest

from dreamer.daemon.client import Dreamer
from dreamer.simulations.loopback import Answer, program, tracker, until
from dreamer.simulations.tiny_model import write_tiny_gguf

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

MIB = 2**20
WAIT_S = 60.0


@pytest.fixture(scope="module")
def pushed(team, lab):
    """Two models that share a tag; only the first has an alias."""
    source = team.model("good", 2 * MIB)
    first = lab[0].dreamer("push", str(source), "--room", "lab", "--alias", "good", "--tag", "twin")
    other = team.model("other", 1000)
    lab[0].dreamer("push", str(other), "--room", "lab", "--tag", "twin")
    return source, first


@pytest.fixture
def intact(lab, pushed, watch):
    """After the bad input, a good pull works and what it lays out is right."""
    yield
    path = Dreamer(lab[1].home).pull("good", "lab")
    assert watch.content(path) == watch.content(pushed[0])


@pytest.fixture(scope="module")
def refused():
    """Outsiders that were let in nowhere, and so are outsiders still."""
    return []


@pytest.fixture
def outsider(team, refused):
    """A node that is in no room."""
    node = refused.pop() if refused else team.node(f"out{len(list(team.root.iterdir()))}")
    yield node
    if Dreamer(node.home).rooms():
        node.process.stop()
    else:
        refused.append(node)


# References


@pytest.mark.parametrize(
    ("ref", "words"),
    [
        ("goood", ["no model is called 'goood'", "did you mean good"]),
        ("deadbeef", ["no model is called", "dreamer models"]),
        ("ab", ["4 digits or more"]),
        ("tag:absent", ["dreamer models"]),
        ("tag:", ["tag"]),
        ("tag:twin", ["names 2 models", "by its id or alias"]),
    ],
)
def test_reference_that_names_nothing_or_two_models(lab, intact, watch, ref, words):
    watch.one_line(lab[1].try_dreamer("pull", ref, "--room", "lab"), *words)


def test_room_that_is_not_here(lab, intact, watch):
    line = watch.one_line(lab[1].try_dreamer("pull", "good", "--room", "lap"), "'lap'")
    assert "lab" in line


def test_several_rooms_and_none_named(lab, watch):
    watch.one_line(lab[1].try_dreamer("alias", "rm", "absent"), "--room")


def test_node_in_no_room_is_told_how_to_join(outsider, watch):
    watch.one_line(outsider.try_dreamer("pull", "good"), "dreamer room join TOKEN")


def test_command_without_a_daemon_says_how_to_start_one(lab, watch, tmp_path):
    done = subprocess.run(
        [program("dreamer"), "--home", str(tmp_path / "none"), "status"],
        capture_output=True,
        text=True,
        timeout=WAIT_S,
    )
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith("dreamer: ")
    assert "dreamerd" in line


# Tokens


def join(node, token):
    return node.try_dreamer("room", "join", token)


def invite(node, *options):
    return node.dreamer("room", "invite", "lab", *options)["token"]


def test_expired_token(lab, outsider, watch, intact):
    token = invite(lab[0], "--expires", "1s")
    made_at = time.time()
    until(lambda: time.time() > made_at + 1.5, "the token's end", WAIT_S)
    watch.one_line(join(outsider, token), "expired", "ask")
    assert outsider.dreamer("room", "list")["rooms"] == []


def test_reused_token(team, lab, outsider, watch, intact):
    token = invite(lab[0])
    first = team.node("first")
    first.dreamer("room", "join", token)
    watch.one_line(join(outsider, token), "used", "ask")
    assert outsider.dreamer("room", "list")["rooms"] == []
    # Whoever used it is still a member, and others can be invited.
    assert first.dreamer("models", "--room", "lab")["models"]
    outsider.dreamer("room", "join", invite(lab[0]))
    first.process.stop()


def test_token_for_two_admits_two(team, lab, outsider, watch):
    token = invite(lab[0], "--uses", "2")
    second = team.node("second")
    for node in (second, outsider):
        node.dreamer("room", "join", token)
        assert Dreamer(node.home).pull("good", "lab").is_dir()
    second.process.stop()


@pytest.mark.parametrize(
    "spoil",
    [
        lambda token: token[:-10],
        lambda token: token[: len(token) // 2],
        lambda token: token[:100] + ("A" if token[100] != "A" else "B") + token[101:],
        lambda token: token.replace("dreamer1.", ""),
        lambda token: "dreamer1.",
        lambda token: "nonsense",
        lambda token: "",
    ],
)
def test_token_that_was_cut_or_changed(lab, outsider, watch, spoil):
    watch.one_line(join(outsider, spoil(invite(lab[0]))), "join token", "copy it again")


def test_member_who_may_not_publish(team, lab, outsider, watch, pushed):
    team.join(outsider, lab[0], "lab", "member")
    answer = outsider.try_dreamer("push", str(pushed[0]), "--room", "lab")
    watch.one_line(answer, "may not publish", "role publisher")
    assert Dreamer(outsider.home).pull("good", "lab").is_dir()


@pytest.mark.parametrize("expires", ["soon", "0s", "-1h", "5"])
def test_expiry_that_is_no_duration(lab, watch, expires):
    answer = lab[0].try_dreamer("room", "invite", "lab", f"--expires={expires}")
    watch.one_line(answer, "24h")


# What is pushed


def test_push_of_what_can_be_no_model(lab, tmp_path, watch, intact):
    a, *_ = lab
    (tmp_path / "empty").mkdir()
    linked = tmp_path / "linked"
    linked.mkdir()
    (linked / "good.bin").write_bytes(b"x")
    (linked / "out.bin").symlink_to("/etc/passwd")
    piped = tmp_path / "piped"
    piped.mkdir()
    os.mkfifo(piped / "pipe")
    for place, words in {
        tmp_path / "missing": ["there is nothing at", "give a file or a directory"],
        tmp_path / "empty": ["holds no file"],
        linked: ["out.bin is a symbolic link", "put the file itself there"],
        piped: ["pipe is neither a file nor a directory"],
        a.home: ["store itself"],
    }.items():
        watch.one_line(a.try_dreamer("push", str(place), "--room", "lab"), *words)


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (["--alias", "a b"], "alias"),
        (["--alias", ""], "alias"),
        (["--tag", "x" * 65], "tag"),
        (["--name", "x" * 129], "name"),
    ],
)
def test_push_under_a_name_that_can_be_none(lab, pushed, watch, options, word):
    answer = lab[0].try_dreamer("push", str(pushed[0]), "--room", "lab", *options)
    watch.one_line(answer, word)


def test_name_that_climbs_stays_in_the_models_directory(team, lab, watch):
    source = team.model("climber", 100)
    lab[0].dreamer("push", str(source), "--room", "lab", "--alias", "climber", "--name", "../../up")
    path = Dreamer(lab[1].home).pull("climber", "lab")
    assert path.parent == lab[1].home / "models"
    assert watch.content(path) == watch.content(source)


def test_output_that_holds_something_else(lab, pushed, tmp_path, watch, intact):
    (tmp_path / "mine.txt").write_text("mine")
    answer = lab[1].try_dreamer("pull", "good", "--room", "lab", "--output", str(tmp_path))
    watch.one_line(answer, "holds something else", "another --output")
    assert [path.name for path in tmp_path.iterdir()] == ["mine.txt"]


# GGUF


def test_gguf_that_can_not_be_imported(lab, tmp_path, watch):
    other = tmp_path / "other.gguf"
    write_tiny_gguf(other, architecture="mamba")
    cut = tmp_path / "cut.gguf"
    write_tiny_gguf(cut)
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    text = tmp_path / "text.gguf"
    text.write_text("not at all")
    target = tmp_path / "imported"
    for file, word in {other: "mamba", cut: "cut.gguf", text: "text.gguf"}.items():
        answer = lab[0].try_dreamer("import", str(file), "--output", str(target))
        watch.one_line(answer, word)
        assert not target.exists()
    answer = lab[0].try_dreamer("import", str(tmp_path / "no.gguf"), "--output", str(target))
    watch.one_line(answer, "no.gguf")


def test_run_of_what_is_no_decoder(lab, pushed, watch):
    watch.one_line(lab[0].try_dreamer("run", "good", "hello", "--room", "lab"))
    watch.one_line(
        lab[1].try_dreamer("run", "good", "hello", "--room", "lab", "--where", "peer"), "serve"
    )


# Trackers and settings


def test_tracker_that_is_not_there_or_says_nothing(team, outsider, watch):
    keeper = team.node("keeper")
    with tracker(team.root / "passing") as url:
        keeper.dreamer("room", "create", "gone", "--tracker", url)
        token = keeper.dreamer("room", "invite", "gone")["token"]
    keeper.process.stop()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        black_hole = f"http://127.0.0.1:{silent.getsockname()[1]}"
        # Each waits for its tracker for a while, so they wait together.
        commands = {
            outsider.begin("room", "create", "other", "--tracker", url): url,
            outsider.begin("room", "join", token): url,
            outsider.begin("room", "create", "void", "--tracker", black_hole): black_hole,
        }
        for command, place in commands.items():
            out, err = command.communicate(timeout=WAIT_S)
            answer = Answer(command.returncode, out, err)
            watch.one_line(answer, place, "check that dreamer-tracker runs")
    assert outsider.dreamer("room", "list")["rooms"] == []


@pytest.mark.parametrize("url", ["ftp://x", "nowhere", "http://user:secret@127.0.0.1:1", ""])
def test_tracker_that_is_no_url(lab, watch, url):
    answer = lab[0].try_dreamer("room", "create", "bad", "--tracker", url)
    assert "secret" not in watch.one_line(answer)


@pytest.mark.parametrize(
    ("origin", "words"),
    [
        ("http://models", ["s3://BUCKET/PREFIX"]),
        ("s3://no-such-bucket/x", ["no-such-bucket"]),
    ],
)
def test_origin_that_is_none(team, lab, watch, origin, words):
    answer = lab[0].try_dreamer(
        *("room", "create", "bad", "--tracker", team.tracker),
        *("--origin", origin, "--endpoint-url", team.endpoint),
    )
    watch.one_line(answer, *words)
    assert "bad" not in {room["name"] for room in lab[0].dreamer("room", "list")["rooms"]}


def test_room_name_that_is_taken(team, lab, watch):
    answer = lab[0].try_dreamer("room", "create", "lab", "--tracker", team.tracker)
    watch.one_line(answer, "here already", "choose another name")


@pytest.mark.parametrize(
    ("text", "environ", "words"),
    [
        ('[node]\nnmae = "x"', {}, ["no key 'nmae'", "did you mean 'name'"]),
        ("[nodes]", {}, ["no section [nodes]", "did you mean 'node'"]),
        ("[node", {}, ["config.toml"]),
        ('[api]\nlisten = "0.0.0.0:80"', {}, ["listen", "loopback"]),
        ("", {"DREAMER_NODE_NAMES": "x"}, ["DREAMER_NODE_NAMES", "did you mean"]),
        ("", {"DREAMER_INFERENCE_THREADS": "many"}, ["DREAMER_INFERENCE_THREADS", "whole number"]),
        ("", {"DREAMER_LOG_LEVEL": "loud"}, ["level", "warning"]),
        ("", {"MODELS_DIR": "/dev/null/x"}, ["/dev/null/x"]),
    ],
)
def test_daemon_refuses_bad_settings(tmp_path, text, environ, words):
    (tmp_path / "config.toml").write_text(text)
    done = subprocess.run(
        [program("dreamerd"), "--home", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=WAIT_S,
        env={**os.environ, **environ},
    )
    assert (done.returncode, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("dreamerd: ")
    for word in words:
        assert word in line


def test_home_whose_key_others_can_read(tmp_path):
    key = tmp_path / "identity" / "node.key"
    key.parent.mkdir()
    key.write_text("11" * 32)
    Path.chmod(key, 0o644)
    done = subprocess.run(
        [program("dreamerd"), "--home", str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=WAIT_S,
    )
    assert done.returncode == 1
    assert "chmod 600" in done.stderr.splitlines()[-1]
