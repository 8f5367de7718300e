"""Models preloaded by real daemons: ready, init containers, a volume, an alias that is followed."""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import threading
from contextlib import closing
from pathlib import Path

import pytest

from dreamer.simulations.loopback import free_port, program, until
from dreamer.simulations.pods import Pod
from dreamer.simulations.tiny_model import write_tiny_gguf

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

MIB = 2**20
WAIT_S = 60.0


@pytest.fixture(scope="module")
def keeper(team):
    """The node that made the room."""
    a = team.node("A")
    team.room(a, "lab")
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


def probe(port: int, path: str) -> int:
    """Return the status that a probe of Kubernetes sees."""
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT_S)) as asked:
        asked.request("GET", path, headers={"Host": "10.1.2.3"})
        return asked.getresponse().status


def test_invitation_that_is_no_good_is_said_and_replaced(token, root):
    port, file = free_port(), root / "token"
    file.write_text("dreamer1.nonsense")
    given = {"DREAMER_WORKER_JOIN_TOKEN_FILE": str(file)}
    pod = Pod(root, "pod", DREAMER_API_PROBE_LISTEN=f"127.0.0.1:{port}", **given)
    with pod.process:
        pod.start("can't join the room of this node's invitation: this is not a whole join token")
        assert (probe(port, "/health"), probe(port, "/ready")) == (200, 503)
        answer = pod.try_dreamer("ready")
        assert (answer.status, "not a whole join token" in answer.out) == (1, True)
        file.write_text(token)
        assert pod.try_dreamer("ready", "--wait", "--timeout", "60s").status == 0
        assert probe(port, "/ready") == 200
        pod.process.stop()


def test_node_is_ready_once_its_models_are_here_and_says_so_everywhere(team, keeper, token, root):
    port = free_port()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.settimeout(WAIT_S)
        systemd.bind(str(root / "notify"))
        pod = Pod(
            root,
            "pod",
            DREAMER_JOIN_TOKEN=token,
            DREAMER_MODELS_PRELOAD="later",
            DREAMER_API_PROBE_LISTEN=f"127.0.0.1:{port}",
            NOTIFY_SOCKET=str(root / "notify"),
        )
        with pod.process:
            pod.start("later can't be brought yet: no model is called 'later'")
            assert (probe(port, "/health"), probe(port, "/ready")) == (200, 503)
            answer = pod.try_dreamer("ready")
            assert (answer.status, "no model is called 'later'" in answer.out) == (1, True)
            assert "dreamerd is ready" not in pod.log()
            push(keeper, team.model("later", MIB), "later")
            assert pod.try_dreamer("ready", "--wait", "--timeout", "60s").status == 0
            assert probe(port, "/ready") == 200
            until(lambda: "dreamerd is ready" in pod.log(), "a word")
            said = [systemd.recv(4096)]
            while not said[-1].startswith(b"READY=1"):
                said.append(systemd.recv(4096))
            assert any(b"no model is called 'later'" in one for one in said)
            pod.process.stop()
        assert systemd.recv(4096).startswith(b"STOPPING=1")


def preload_only(root: Path, name: str, **env: str) -> subprocess.CompletedProcess[str]:
    pod = Pod(root, name, **env)
    return subprocess.run(
        [program("dreamerd"), "--preload-only"],
        env={**os.environ, **pod.env},
        capture_output=True,
        text=True,
        timeout=WAIT_S,
    )


def fetched(status) -> int:
    """Return the bytes that a node took from anybody."""
    return sum(size for lane, size in status["bytes_by_lane"].items() if lane != "cache")


def test_init_container_fetches_and_the_pod_after_it_starts_warm(team, keeper, token, root):
    push(keeper, team.model("volume", 4 * MIB), "volume")
    env = {
        "DREAMER_JOIN_TOKEN": token,
        "DREAMER_MODELS_PRELOAD": "volume",
        "MODELS_DIR": str(root / "volume"),
    }
    done = preload_only(root, "init", **env)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("volume is here: volume ")
    # On another machine, so with nothing but the volume.
    with Pod(root, "pod", **env) as pod:
        status = pod.dreamer("status")
        assert (status["readiness"]["ready"], fetched(status)) == (True, 0)
        pod.process.stop()
    # Damage is found by the hashes, whatever the file is called and however long it is.
    (stored,) = (one for one in (root / "volume").glob("volume-*/part-0.bin"))
    stored.chmod(0o644)
    with stored.open("r+b") as file:
        file.seek(2 * MIB)
        file.write(b"damage")
    with Pod(root, "other", **env) as pod:
        assert fetched(pod.dreamer("status")) == MIB
        pod.process.stop()


def test_init_container_that_can_not_go_on_fails_with_one_clear_line(root):
    env = {"DREAMER_JOIN_TOKEN": "dreamer1.nonsense", "DREAMER_MODELS_PRELOAD": "prod"}
    done = preload_only(root, "init", **env)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1] == (
        "dreamerd: this is not a whole join token: copy it again"
    )
    assert "Traceback" not in done.stderr


def test_probe_port_that_is_taken_is_one_clear_line(root):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        pod = Pod(root, "pod", DREAMER_API_PROBE_LISTEN=f"127.0.0.1:{port}")
        done = subprocess.run(
            [program("dreamerd")],
            env={**os.environ, **pod.env},
            capture_output=True,
            text=True,
            timeout=WAIT_S,
        )
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1].startswith(f"dreamerd: can't listen on 127.0.0.1:{port}")
    assert done.stderr.splitlines()[-1].endswith("change [api] probe_listen")


def talker(team, keeper, seed: int) -> Path:
    """A model that runs, one for each seed."""
    gguf, directory = team.root / f"tiny-{seed}.gguf", team.root / f"talker-{seed}"
    write_tiny_gguf(gguf, seed)
    keeper.dreamer("import", str(gguf), "--output", str(directory))
    return directory


def test_served_model_follows_its_alias_without_a_gap(team, keeper, token, root):
    first = push(keeper, talker(team, keeper, 1), "assistant")["manifest_id"]
    env = {
        "DREAMER_JOIN_TOKEN": token,
        "DREAMER_MODELS_PRELOAD": "assistant",
        "DREAMER_MODELS_FOLLOW": "true",
        "DREAMER_INFERENCE_MAX_MODELS": "1",
    }
    with Pod(root, "pod", **env) as pod:
        client = pod.client

        def loaded():
            return [one["manifest_id"] for one in client.status()["inference"]["loaded"]]

        assert loaded() == [first]
        failures, runners, stop = [], [], threading.Event()

        def ask():
            while not stop.is_set():
                try:
                    events = list(client.run_events("assistant", "hello", max_tokens=2))
                    runners.append((events[0].where, events[0].manifest_id))
                except Exception as error:
                    failures.append(error)

        asking = threading.Thread(target=ask)
        asking.start()
        try:
            second = push(keeper, talker(team, keeper, 2), "assistant")["manifest_id"]
            until(lambda: loaded() == [second], "the second model alone", WAIT_S)
            count = len(runners)
            until(lambda: len(runners) > count + 2, "answers of the second", WAIT_S)
        finally:
            stop.set()
            asking.join(WAIT_S)
        assert failures == []
        assert {where for where, _ in runners} == {"local"}
        order = [manifest_id for _, manifest_id in runners]
        assert order == sorted(order, key=[first, second].index)
        assert set(order) == {first, second}
        assert client.readiness.info().ready
        pod.process.stop()
