"""``dreamer ready`` and ``dreamer env``: their exit status and what a shell makes of them."""

from __future__ import annotations

import json
import shutil
import subprocess

import pytest

from dreamer.daemon.cli.entry import run


@pytest.fixture
def dreamer(served, capsys):
    """Runs one command line in this process; returns status, stdout and stderr."""

    def call(*words):
        status = run(["--home", str(served.home), *words])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return call


def test_ready_tells_scripts_by_its_status(dreamer, served):
    status, out, _ = dreamer("ready")
    assert (status, out.splitlines()[0]) == (0, "ready")
    assert "abababab tiny loaded" in " ".join(out.split())
    served.node.readiness.ready = False
    status, out, _ = dreamer("ready")
    assert status == 1
    assert "prod: fetching, 2 of 5 bytes are here" in out


def test_ready_as_json_is_one_document(dreamer, served):
    served.node.readiness.ready = False
    status, out, _ = dreamer("ready", "--json")
    assert (status, json.loads(out)["preload"][0]["ref"]) == (1, "prod")


def test_ready_waits_no_longer_than_it_is_told(dreamer, served):
    served.node.readiness.ready = False
    assert dreamer("ready", "--wait", "--timeout", "1s")[0] == 1
    served.node.readiness.ready = True
    assert dreamer("ready", "--wait")[0] == 0


def test_timeout_without_wait_is_a_mistake(dreamer):
    status, _, err = dreamer("ready", "--timeout", "1s")
    assert status == 2
    assert "--wait" in err


def test_ready_without_daemon_fails_and_says_so(tmp_path, capsys):
    assert run(["--home", str(tmp_path), "ready"]) == 1
    assert "no dreamerd is running" in capsys.readouterr().err


def env(tmp_path, capsys, monkeypatch, *options):
    """Run ``dreamer env`` with a store whose path has all that shells take amiss."""
    monkeypatch.setenv("MODELS_DIR", str(tmp_path / "it's a \\ $HOME `x`"))
    assert run(["--home", str(tmp_path / "home"), "env", *options]) == 0
    return capsys.readouterr().out


def test_shell_takes_the_variables_as_they_are_meant(tmp_path, capsys, monkeypatch):
    script = env(tmp_path, capsys, monkeypatch)
    said = subprocess.run(
        ["sh", "-c", 'eval "$1"; printf %s "$HF_HUB_CACHE"', "sh", script],
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout == f"{tmp_path}/it's a \\ $HOME `x`/caches/huggingface/hub"


def test_fish_takes_the_variables_as_they_are_meant(tmp_path, capsys, monkeypatch):
    script = env(tmp_path, capsys, monkeypatch, "--shell", "fish")
    line = next(one for one in script.splitlines() if "TORCH_HOME" in one)
    assert line == f"set -gx TORCH_HOME '{tmp_path}/it\\'s a \\\\ $HOME `x`/caches/torch'"
    if shell := shutil.which("fish"):
        said = subprocess.run(
            [shell, "-c", f"{script}\nprintf %s $TORCH_HOME"], capture_output=True, text=True
        )
        assert said.stdout == f"{tmp_path}/it's a \\ $HOME `x`/caches/torch"


def test_env_as_json_is_one_document(tmp_path, capsys, monkeypatch):
    for options in (["--json"], ["--shell", "json"]):
        found = json.loads(env(tmp_path, capsys, monkeypatch, *options))
        assert found["OLLAMA_MODELS"].endswith("/caches/ollama")


def test_env_asks_the_daemon_that_runs(dreamer, served, monkeypatch):
    async def status():
        return {"store": {"path": "/volume"}}

    monkeypatch.setattr(served.node, "status", status)
    assert "export TORCH_HOME=/volume/caches/torch\n" in dreamer("env")[1]
