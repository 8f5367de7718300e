"""The PyPI client ``ollama`` against real nodes: whatever moves, makes and removes models."""

from __future__ import annotations

import json
import os

import ollama
import pytest

from dreamer.simulations.loopback import until

pytestmark = [pytest.mark.interop, pytest.mark.timeout(180)]

HI = [{"role": "user", "content": "Say something."}]
GREEDY = {"temperature": 0, "repeat_penalty": 1.0}
SHORT = {**GREEDY, "num_predict": 8}


def _names(client):
    return [model.model for model in client.list().models]


@pytest.fixture(scope="module")
def tiny_blob(models_node, socket_client):
    """The tiny GGUF as an uploaded blob: its digest."""
    return socket_client.create_blob(models_node.node.home.parent / "tiny.gguf")


def test_pull_shows_its_bytes_and_the_model_runs_there(puller, socket_client):
    assert "talker:latest" in _names(puller)
    lines = list(puller.pull("talker", stream=True))
    assert lines[0].status == "pulling manifest"
    assert lines[-1].status == "success"
    counted = [line for line in lines if line.total]
    (size,) = [one.size for one in puller.list().models if one.model == "talker:latest"]
    assert counted[-1].total == counted[-1].completed == size
    assert all((line.completed or 0) <= line.total for line in counted)
    assert counted[-1].digest.startswith("blake3:")
    assert puller.pull("talker:latest").status == "success"
    said = socket_client.generate("talker", "hi", options=SHORT).response
    assert puller.generate("talker", "hi", options=SHORT).response == said


def test_app_gets_a_model_that_only_a_peer_has(asker, puller, socket_client):
    puller.pull("talker")
    headers = []
    asker._client.event_hooks["response"].append(lambda one: headers.append(one.headers))
    said = socket_client.chat("talker", HI, options=SHORT)
    until(lambda: _answers(asker), "the peer's offer")
    heard = asker.chat("talker", HI, options=SHORT)
    assert heard.message.content == said.message.content
    assert (heard.eval_count, heard.prompt_eval_count) == (8, said.prompt_eval_count)
    assert headers[-1]["X-Dreamer-Where"] == "peer"
    pieces = list(asker.chat("talker", HI, options=SHORT, stream=True))
    assert "".join(piece.message.content for piece in pieces) == said.message.content
    # Whoever runs it loads it: an app that wants it ready hears no refusal.
    assert asker.generate("talker").done_reason == "load"
    assert not asker.ps().models


def _answers(client):
    try:
        return client.generate("talker", "hi", options=SHORT).done
    except ollama.ResponseError:
        return False


def test_copies_are_names_and_go_alone(socket_client):
    assert socket_client.copy("talker", "llama3.2:1b").status == "success"
    said = socket_client.generate("talker", "hi", options=SHORT).response
    assert socket_client.generate("llama3.2:1b", "hi", options=SHORT).response == said
    assert "llama3-2-1b:latest" in _names(socket_client)
    assert socket_client.delete("llama3.2:1b").status == "success"
    assert "llama3-2-1b:latest" not in _names(socket_client)
    assert socket_client.generate("talker", "hi", options=SHORT).response == said


def test_name_that_is_moved_means_the_other_model_at_once(socket_client):
    def say(model):
        return socket_client.chat(model, HI, options=SHORT).message.content

    said = {}
    for name in ("one", "two"):
        socket_client.create(name, from_="talker", system=f"You are number {name}.")
        said[name] = say(name)
    assert said["one"] != said["two"]
    for name in ("one", "two", "one"):
        socket_client.copy(name, "moved")
        assert say("moved") == said[name]
    socket_client.delete("moved")
    with pytest.raises(ollama.ResponseError, match="model 'moved' not found"):
        say("moved")
    _gone(socket_client, "one")
    _gone(socket_client, "two")


def test_model_is_made_of_a_gguf_and_runs(socket_client, tiny_blob):
    lines = list(
        socket_client.create(
            "mario:v1", files={"tiny.gguf": tiny_blob}, system="You are Mario.",
            parameters=SHORT, license="Only for tests.", stream=True,
        )
    )  # fmt: skip
    assert lines[0].status == "parsing GGUF"
    assert any(line.status == "converting model" and line.completed for line in lines)
    assert lines[-1].status == "success"
    assert "mario:v1" in _names(socket_client)
    shown = socket_client.show("mario:v1")
    assert shown.license == "Only for tests."
    assert 'SYSTEM """You are Mario."""' in shown.modelfile
    answer = socket_client.chat("mario:v1", HI)
    assert answer.eval_count == 8
    explicit = [{"role": "system", "content": "You are Mario."}, *HI]
    said = socket_client.chat("talker", explicit, options=SHORT).message.content
    assert answer.message.content == said
    _gone(socket_client, "mario:v1")


def test_model_is_made_of_another(socket_client, puller):
    made = socket_client.create(
        "luigi",
        from_="talker",
        system="You are Luigi.",
        messages=[{"role": "user", "content": "?"}],
    )
    assert made.status == "success"
    said = socket_client.chat("luigi", HI, options=SHORT).message.content
    explicit = [
        {"role": "system", "content": "You are Luigi."}, {"role": "user", "content": "?"}, *HI,
    ]  # fmt: skip
    assert said == socket_client.chat("talker", explicit, options=SHORT).message.content
    # Its system prompt goes wherever the model goes, and is never left out.
    with pytest.raises(ollama.ResponseError, match="pull it first"):
        puller.chat("luigi", HI, options=SHORT)
    assert puller.pull("luigi").status == "success"
    assert puller.chat("luigi", HI, options=SHORT).message.content == said
    assert puller.delete("luigi").status == "success"
    assert socket_client.delete("luigi").status == "success"


def test_delete_frees_this_node_alone(puller, socket_client):
    puller.pull("talker")
    assert puller.delete("talker").status == "success"
    # The name is the room's, and so is the model: it can be pulled again.
    assert "talker:latest" in _names(puller)
    with pytest.raises(ollama.ResponseError, match="nothing is removed") as refused:
        puller.delete("talker")
    assert refused.value.status_code == 403
    assert "talker:latest" in _names(socket_client)


def test_push_ends_with_success(client):
    lines = list(client.push("talker", stream=True))
    assert lines[-1].status == "success"
    assert any(line.status == "hashing files" for line in lines)
    assert client.push("talker").status == "success"


@pytest.mark.model
def test_real_model_is_made_of_its_gguf_and_answers(socket_client):
    gguf = os.environ.get("DREAMER_TEST_GGUF")
    if not gguf:
        pytest.skip("DREAMER_TEST_GGUF names no GGUF of SmolLM2: run 'make models'")
    digest = socket_client.create_blob(gguf)
    lines = list(
        socket_client.create(
            "smollm2:135m", files={"SmolLM2.gguf": digest}, parameters={"temperature": 0},
            system="You answer in one word.", stream=True,
        )
    )  # fmt: skip
    assert [line.completed for line in lines if line.status == "converting model"][-1] == 30
    shown = socket_client.show("smollm2:135m")
    assert shown.details.parameter_size == "134.52M"
    question = [{"role": "user", "content": "What is the capital of France?"}]
    assert "Paris" in socket_client.chat("smollm2:135m", question).message.content
    schema = {"type": "object", "properties": {"city": {"type": "string", "maxLength": 20}},
              "required": ["city"], "additionalProperties": False}  # fmt: skip
    answer = socket_client.chat("smollm2:135m", question, format=schema).message.content
    assert "Paris" in json.loads(answer)["city"]
    emoji = [{"role": "user", "content": "Repeat exactly: 🌍🚀✨ naïve"}]
    pieces = list(
        socket_client.chat("smollm2:135m", emoji, stream=True, options={"num_predict": 24})
    )
    assert "\ufffd" not in "".join(piece.message.content for piece in pieces)
    _gone(socket_client, "smollm2:135m")


def _gone(client, name):
    assert client.delete(name).status == "success"
    assert name not in _names(client)
