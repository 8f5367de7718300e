"""Starting and stopping: SIGTERM at any moment, Ctrl-C in any command, one daemon for a home."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from dreamer.simulations.loopback import Node, program, until
from dreamer.simulations.tiny_model import write_tiny_gguf

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

MIB = 2**20
LARGE = 40 * MIB
STARTED = 4 * MIB
WAIT_S = 60.0
STOP_S = 10.0


@pytest.fixture(scope="module")
def large(team, lab):
    source = team.model("large", LARGE)
    lab[0].dreamer("push", str(source), "--room", "lab", "--alias", "large")
    return source


@pytest.fixture(scope="module")
def talker(team, lab):
    """A model that runs: it never ends by itself before it is told to."""
    gguf, directory = team.root / "tiny.gguf", team.root / "talker"
    write_tiny_gguf(gguf)
    lab[0].dreamer("import", str(gguf), "--output", str(directory))
    lab[0].dreamer("push", str(directory), "--room", "lab", "--alias", "talker")
    return gguf


@pytest.fixture(scope="module")
def black_hole():
    """A URL that accepts connections and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        yield f"http://127.0.0.1:{silent.getsockname()[1]}"


@contextmanager
def soon_over(node):
    """Stop a daemon with SIGTERM; no process of it may be left after ten seconds."""
    family = psutil.Process(node.process.pid).children(recursive=True)
    began = time.monotonic()
    node.process.terminate()
    yield
    assert node.process.wait() == 0
    assert time.monotonic() - began < STOP_S
    assert not (node.home / "run" / "dreamerd.sock").exists()
    _, alive = psutil.wait_procs(family, timeout=STOP_S)
    assert alive == []


def interrupt(process):
    """Press Ctrl-C; return the one line that the command ends with."""
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=WAIT_S)
    assert process.returncode == 130, out + err
    assert "Traceback" not in err
    assert [line for line in err.splitlines() if line.startswith("dreamer: ")] == [
        err.splitlines()[-1]
    ]
    return err.splitlines()[-1]


# SIGTERM


def test_idle_daemon_stops_and_starts_again(team, lab, large):
    node = team.member("idle", lab[0])
    with soon_over(node):
        pass
    node.start()
    assert node.dreamer("room", "list")["rooms"][0]["name"] == "lab"
    node.process.stop()


def test_daemon_stops_in_the_middle_of_a_pull_and_resumes_it(team, lab, large, watch):
    node = team.member("puller", lab[0])
    with node.begin("pull", "large", "--room", "lab") as pull:
        watch.pulling(node, STARTED)
        # The peer hangs, or the pull might end before the daemon does.
        with watch.frozen(lab[0]), soon_over(node):
            pass
        _, err = pull.communicate(timeout=WAIT_S)
    assert pull.returncode == 1
    assert err.splitlines()[-1].startswith("dreamer: ")
    node.start()
    receipt = node.dreamer("pull", "large", "--room", "lab")
    assert receipt["resumed"] >= MIB
    assert watch.content(Path(receipt["path"])) == watch.content(large)
    node.process.stop()


def test_daemon_stops_while_it_serves(team, lab, large, watch):
    server, reader = team.nodes("server", "reader")
    team.room(server, "pair")
    team.join(reader, server, "pair")
    server.dreamer("push", str(large), "--room", "pair", "--alias", "large")
    with reader.begin("pull", "large", "--room", "pair") as pull:
        watch.pulling(reader, STARTED)
        with soon_over(server):
            pass
        # With the only seeder back, the same pull goes on.
        server.start()
        out, err = pull.communicate(timeout=WAIT_S)
    assert pull.returncode == 0, out + err
    for node in (server, reader):
        node.process.stop()


def test_daemon_stops_while_a_model_runs(team, lab, talker):
    node = team.member("runner", lab[0])
    node.dreamer("pull", "talker", "--room", "lab")
    with node.begin("run", "talker", "hello", "--room", "lab", "--max-tokens", "400") as run:
        assert run.stdout.read(1)
        with soon_over(node):
            pass
        run.communicate(timeout=WAIT_S)
    assert run.returncode in (0, 1)


def test_killed_daemon_leaves_no_process_behind(team, lab):
    node = team.member("killed", lab[0])
    family = psutil.Process(node.process.pid).children(recursive=True)
    assert family
    node.process.kill()
    _, alive = psutil.wait_procs(family, timeout=STOP_S)
    assert alive == []


# Starting


def test_second_daemon_on_a_home_says_who_holds_it(lab):
    a = lab[0]
    done = subprocess.run(
        [program("dreamerd"), "--home", str(a.home)], capture_output=True, text=True, timeout=WAIT_S
    )
    assert done.returncode != 0
    assert done.stdout == ""
    (line,) = done.stderr.splitlines()
    assert line.startswith("dreamerd: ")
    assert str(a.process.pid) in line
    assert "--home" in line
    assert a.dreamer("status")["name"] == "A"


def test_node_with_a_tracker_needs_no_other(team, watch):
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    env = {"DREAMER_TRACKER_LISTEN": address}
    keeper, guest = team.node("keeper", "--with-tracker", env=env), team.node("guest")
    keeper.dreamer("room", "create", "home", "--tracker", f"http://{address}")
    source = team.model("shared", MIB)
    keeper.dreamer("push", str(source), "--room", "home", "--alias", "shared")
    team.join(guest, keeper, "home")
    assert watch.moved(guest.dreamer("pull", "shared", "--room", "home")) == MIB
    with soon_over(keeper):
        pass
    # The tracker's records outlive it.
    keeper.start()
    until(lambda: guest.dreamer("room", "list")["rooms"][0]["connected"], "the return", WAIT_S)
    assert guest.dreamer("models", "--room", "home")["models"][0]["aliases"] == ["shared"]
    guest.process.stop()
    with soon_over(keeper):
        pass


# Ctrl-C


def staged(staging):
    """Return the files of a push under way; each daemon's own folder with its lock stays."""
    return [path for path in staging.rglob("*") if path.is_file() and path.parent != staging]


def test_ctrl_c_in_a_push_leaves_nothing_half_done(team, lab, watch):
    source = team.model("interrupted", 160 * MIB)
    a = lab[0]
    staging = a.home / "models" / ".dreamer" / "staging"
    with a.begin("push", str(source), "--room", "lab", "--alias", "whole") as push:
        until(lambda: any(staged(staging)), "the first bytes of the push", WAIT_S)
        assert "run again: dreamer" in interrupt(push)
    until(lambda: not any(staged(staging)), "the staging to be emptied", WAIT_S)
    watch.one_line(a.try_dreamer("pull", "whole", "--room", "lab"), "whole")
    pushed = a.dreamer("push", str(source), "--room", "lab", "--alias", "whole")
    assert pushed["size_bytes"] == 160 * MIB
    a.dreamer("rm", "whole", "--room", "lab")
    shutil.rmtree(source)


def test_ctrl_c_in_a_run_stops_the_generation(lab, talker):
    a = lab[0]
    with a.begin("run", "talker", "hello", "--room", "lab", "--max-tokens", "400") as run:
        assert run.stdout.read(1)
        assert "run again" in interrupt(run)
    said = a.dreamer("run", "talker", "hello", "--room", "lab", "--max-tokens", "4")
    assert said["completion_tokens"] == 4


def test_ctrl_c_in_an_import_leaves_no_directory(lab, talker, tmp_path):
    target = tmp_path / "never"
    with lab[0].begin("import", str(talker), "--output", str(target)) as command:
        assert command.stderr.readline().startswith("import: ")
        interrupt(command)
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_while_a_tracker_says_nothing(lab, black_hole):
    a = lab[0]
    with a.begin("room", "create", "void", "--tracker", black_hole) as create:
        until(lambda: "void" in str(a.dreamer("room", "list")), "the room's beginning", WAIT_S)
        interrupt(create)
    until(lambda: "void" not in str(a.dreamer("room", "list")), "its end", WAIT_S)


def test_daemon_that_is_in_no_room_has_no_connection(tmp_path):
    with Node(tmp_path / "N") as node:
        parent = psutil.Process(node.process.pid)
        sockets = [
            connection
            for process in (parent, *parent.children(recursive=True))
            for connection in process.net_connections("inet")
        ]
    assert sockets == []
