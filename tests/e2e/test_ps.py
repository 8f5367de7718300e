"""`dreamer ps`, the metrics and the settings of running models, on a real daemon."""

from __future__ import annotations

import http.client
import os
import signal
from contextlib import closing

import pytest

from dreamer.daemon.rest.local_socket import connect
from dreamer.simulations.tiny_model import write_tiny_gguf

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]

SETTINGS = {
    "DREAMER_INFERENCE_WORKERS_PER_GPU": "2",
    "DREAMER_INFERENCE_SLOTS": "1",
    "DREAMER_INFERENCE_SPARE_WORKERS": "1",
}


@pytest.fixture(scope="module")
def runner(team, lab):
    """A node of its own that has a tiny decoder under a name too long for a column."""
    gguf, directory = team.root / "ps.gguf", team.root / "a-model-with-quite-a-long-name"
    write_tiny_gguf(gguf)
    lab[0].dreamer("import", str(gguf), "--output", str(directory))
    lab[0].dreamer("push", str(directory), "--room", "lab", "--alias", "ps-model")
    node = team.member("ps", lab[0], env=SETTINGS)
    node.dreamer("pull", "ps-model", "--room", "lab")
    return node


def run(node):
    return node.dreamer("run", "ps-model", "Say something.", "--room", "lab", "--max-tokens", "9")


def test_ps_tells_of_models_workers_and_counts_in_80_columns(runner):
    before = runner.dreamer("ps")
    assert before["models"] == []
    assert before["pool"]["queue_max"] == 200
    assert runner.try_dreamer("ps").out.startswith("no model is loaded")
    run(runner)
    found = runner.dreamer("ps")
    (model,) = found["models"]
    (worker,) = model["workers"]
    assert (model["requests"], model["failures"], model["completion_tokens"]) == (1, 0, 9)
    assert (model["kind"], worker["device"], model["loads"]) == ("decoder", "cpu", 1)
    assert model["memory_bytes"] == worker["memory_bytes"] > 10_000_000
    assert worker["decode_tokens_s"] > 0
    said = runner.try_dreamer("ps", "--workers").out
    assert str(worker["pid"]) in said
    assert "a-model-with-…" in said
    assert all(len(line) <= 80 for line in said.splitlines())


def metrics_of(node) -> str:
    with closing(http.client.HTTPConnection("dreamerd")) as connection:
        connection.sock = connect(node.home / "run" / "dreamerd.sock", 20)
        connection.request("GET", "/metrics")
        with connection.getresponse() as answer:
            return answer.read().decode()


def test_metrics_count_the_same(runner):
    run(runner)
    (model,) = runner.dreamer("ps")["models"]
    metrics = metrics_of(runner)
    label = f'{{model="{model["name"]}",id="{model["manifest_id"][:8]}"'
    answered = f'dreamer_inference_requests_total{label},outcome="ok"}} {model["requests"]}'
    assert answered in metrics
    assert f"dreamer_inference_generation_tokens_total{label}}}" in metrics
    assert "dreamer_inference_time_to_first_token_seconds_bucket{le=" in metrics


def test_killed_worker_is_replaced_and_nobody_sees_it(runner):
    said = run(runner)["text"]
    (model,) = runner.dreamer("ps")["models"]
    for worker in model["workers"]:
        os.kill(worker["pid"], signal.SIGKILL)
    assert run(runner)["text"] == said
    (after,) = runner.dreamer("ps")["models"]
    assert after["failures"] == 0
    assert after["loads"] > model["loads"]
