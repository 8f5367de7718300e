"""The PyPI client ``ollama`` against a real node, by both of its sockets: what runs models."""

from __future__ import annotations

import json
import math
from concurrent.futures import ThreadPoolExecutor

import httpx
import ollama
import pytest

from dreamer.simulations.loopback import until

pytestmark = [pytest.mark.interop, pytest.mark.timeout(180)]

HI = [{"role": "user", "content": "Say something."}]
GREEDY = {"temperature": 0, "repeat_penalty": 1.0}
SHORT = {**GREEDY, "num_predict": 8}


def _loaded(client):
    return [model for model in client.ps().models if model.model == "talker:latest"]


def _names(client):
    return [model.model for model in client.list().models]


def test_key_from_the_environment_is_the_token(models_node, monkeypatch):
    monkeypatch.setenv("OLLAMA_API_KEY", models_node.token)
    monkeypatch.setenv("OLLAMA_HOST", models_node.url)
    with ollama.Client() as client:
        assert "talker:latest" in _names(client)
    monkeypatch.setenv("OLLAMA_API_KEY", "wrong")
    with ollama.Client() as client, pytest.raises(ollama.ResponseError) as refused:
        client.list()
    assert refused.value.status_code == 401


def test_list_tells_of_the_rooms_models(client):
    (talker,) = [model for model in client.list().models if model.model == "talker:latest"]
    assert (talker.details.family, talker.details.format) == ("llama", "onnx")
    assert talker.details.parameter_size == "1.25M"
    assert talker.size > 2**20
    assert len(talker.digest) == 64
    assert talker.modified_at.tzinfo is not None


def test_show_tells_of_one(client):
    shown = client.show("talker")
    assert "<|im_start|>" in shown.template
    assert shown.capabilities == ["completion"]
    assert shown.modelinfo["llama.context_length"] == 512
    assert shown.details.family == "llama"
    assert "cc0" in shown.license
    assert "FROM talker" in shown.modelfile


def test_generate_says_the_same_streamed_and_in_one(client):
    whole = client.generate("talker", "Say something.", options=SHORT)
    assert (whole.done, whole.done_reason, whole.eval_count) == (True, "length", 8)
    assert whole.prompt_eval_count > 0
    assert whole.total_duration >= whole.eval_duration > 0
    assert whole.prompt_eval_duration > 0
    pieces = list(client.generate("talker", "Say something.", options=SHORT, stream=True))
    assert "".join(piece.response for piece in pieces) == whole.response
    assert len(pieces) > 2
    assert [piece.done for piece in pieces] == [False] * (len(pieces) - 1) + [True]
    assert pieces[-1].eval_count == 8


def test_chat_says_the_same_as_generate(client):
    said = client.generate("talker", HI[0]["content"], options=SHORT).response
    whole = client.chat("talker", HI, options=SHORT)
    assert (whole.message.role, whole.message.content) == ("assistant", said)
    pieces = list(client.chat("talker", HI, options=SHORT, stream=True))
    assert "".join(piece.message.content for piece in pieces) == said


def test_context_goes_on_as_a_chat_would(client):
    first = client.generate("talker", "one", options=SHORT)
    more = client.generate("talker", "two", context=first.context, options=SHORT)
    chat = [
        {"role": "user", "content": "one"},
        {"role": "assistant", "content": first.response},
        {"role": "user", "content": "two"},
    ]
    assert more.response == client.chat("talker", chat, options=SHORT).message.content
    assert more.response != client.generate("talker", "two", options=SHORT).response


def test_raw_prompt_is_not_put_through_the_template(client):
    raw = client.generate("talker", "hello", raw=True, options=SHORT)
    assert (
        raw.prompt_eval_count < client.generate("talker", "hello", options=SHORT).prompt_eval_count
    )
    assert raw.context is None


def test_seed_repeats_an_answer(client):
    drawn = {"temperature": 1.5, "seed": 7, "num_predict": 24}
    first = client.generate("talker", "hi", options=drawn).response
    assert client.generate("talker", "hi", options=drawn).response == first
    assert client.generate("talker", "hi", options={**drawn, "seed": 8}).response != first


def test_stop_ends_before_the_text(client):
    said = client.generate("talker", "hi", options=SHORT).response
    stopped = client.generate("talker", "hi", options={**SHORT, "stop": [said[3:5]]})
    assert (stopped.response, stopped.done_reason) == (said[: said.index(said[3:5])], "stop")


def test_json_is_json(client):
    long = {**GREEDY, "num_predict": 400, "temperature": 0.7, "seed": 3}
    schema = {"type": "object", "properties": {"ok": {"type": "boolean"}}, "required": ["ok"],
              "additionalProperties": False}  # fmt: skip
    answer = client.chat("talker", HI, format=schema, options=long).message.content
    assert isinstance(json.loads(answer)["ok"], bool)
    said = client.generate("talker", "hi", format="json", options=SHORT).response
    assert said.lstrip()[:1] == "{"


def test_logprobs_tell_how_likely_each_token_was(client):
    options = {**SHORT, "num_predict": 4}
    answer = client.chat("talker", HI, options=options, logprobs=True, top_logprobs=3)
    assert len(answer.logprobs) == answer.eval_count
    for one in answer.logprobs:
        assert len(one.top_logprobs) == 3
        # Greedy: the likeliest is the one that was taken.
        assert one.token == one.top_logprobs[0].token
        assert one.logprob <= 0
    pieces = list(client.generate("talker", "hi", options=options, logprobs=True, stream=True))
    assert sum(len(piece.logprobs or ()) for piece in pieces) == 4


def test_embeddings_are_unit_vectors_one_a_text(client, embedder):
    both = client.embed(embedder, ["a fine day", "rain"])
    assert both.prompt_eval_count > 0
    assert len(both.embeddings) == 2
    assert all(math.isclose(math.hypot(*one), 1.0, rel_tol=1e-4) for one in both.embeddings)
    alone = client.embed(embedder, "rain").embeddings
    assert alone[0] == pytest.approx(both.embeddings[1], abs=1e-5)
    older = client.embeddings(embedder, "rain").embedding
    length = math.hypot(*older)
    assert [value / length for value in older] == pytest.approx(alone[0], abs=1e-5)
    assert client.embed(embedder, []).embeddings == []
    assert len(client.embed(embedder, "rain", dimensions=2).embeddings[0]) == 2
    assert client.show(embedder).capabilities == ["embedding"]
    with pytest.raises(ollama.ResponseError) as refused:
        client.generate(embedder, "hi")
    assert refused.value.status_code == 400


def test_model_is_loaded_listed_and_unloaded(client):
    assert client.generate("talker", keep_alive="10m").done_reason == "load"
    (loaded,) = _loaded(client)
    assert (loaded.context_length, loaded.size_vram) == (512, 0)
    assert loaded.size > 2**20
    assert client.chat("talker", keep_alive=-1).done_reason == "load"
    (loaded,) = _loaded(client)
    assert loaded.expires_at.year > 2300
    assert client.generate("talker", keep_alive=0).done_reason == "unload"
    until(lambda: not _loaded(client), "unloading")


def test_keep_alive_of_an_answer_unloads_the_model_after_it(client):
    client.generate("talker", "hi", options=SHORT, keep_alive=0)
    until(lambda: not _loaded(client), "unloading")


@pytest.mark.parametrize(
    ("call", "status", "named"),
    [
        (lambda one: one.show("nope"), 404, "model 'nope' not found"),
        (lambda one: one.generate("nope", "hi"), 404, "model 'nope' not found"),
        (lambda one: one.chat("nope", HI), 404, "model 'nope' not found"),
        (lambda one: one.embed("nope", "hi"), 404, "model 'nope' not found"),
        (lambda one: one.pull("nope"), 404, "model 'nope' not found"),
        (lambda one: one.push("nope"), 404, "model 'nope' not found"),
        (lambda one: one.copy("nope", "x"), 404, "model 'nope' not found"),
        (lambda one: one.delete("nope"), 404, "model 'nope' not found"),
        (lambda one: one.create("x", from_="nope"), 404, "model 'nope' not found"),
        (lambda one: one.create("x"), 400, "neither 'from' or 'files'"),
        (lambda one: one.chat("talker", HI, think=True), 400, "does not support thinking"),
        (lambda one: one.chat("talker", HI, tools=[{"function": {"name": "f"}}]), 400,
         "does not support tools"),
        (lambda one: one.generate("talker", "x", images=[b"x"]), 400, "images"),
        (lambda one: one.generate("talker", "x", suffix="y"), 400, "insert"),
        (lambda one: one.generate("talker", "x" * 200_000, options=SHORT), 400, "shorten it"),
        (lambda one: one.embed("talker", "hi"), 400, "writes text"),
        (lambda one: one.embeddings("talker", "hi"), 400, "writes text"),
        (lambda one: one.systemone("talker", "s", {}), 404, "/v1/systemone"),
    ],
)  # fmt: skip
def test_what_can_not_be_done_is_an_error_with_its_status(client, call, status, named):
    with pytest.raises(ollama.ResponseError) as refused:
        call(client)
    assert (refused.value.status_code, named in str(refused.value.error)) == (status, True), (
        refused.value.error
    )


def test_several_clients_at_once_hear_what_each_alone_hears(socket_client):
    prompts = [f"number {number}" for number in range(6)]

    def say(prompt):
        return socket_client.generate("talker", prompt, options=SHORT).response

    alone = [say(prompt) for prompt in prompts]
    with ThreadPoolExecutor(len(prompts)) as pool:
        assert list(pool.map(say, prompts)) == alone


def test_answer_without_a_bound_ends_with_the_context(socket_client):
    whole = socket_client.generate("talker", "hi", options=GREEDY)
    assert whole.done_reason == "length"
    assert 450 < whole.prompt_eval_count + whole.eval_count <= 512


def test_stream_that_is_left_ends_the_work(models_node, by_socket):
    def talker():
        (one,) = [
            one for one in models_node.node.dreamer("ps")["models"] if one["name"] == "talker"
        ]
        return one

    with by_socket(models_node.node) as one:
        one.generate("talker", "hi", options=SHORT)
        until(lambda: not talker()["running"], "the end of the first answer")
        before = talker()
        stream = one.generate("talker", "hi", options={**GREEDY, "num_predict": 480}, stream=True)
        next(stream)
        stream.close()
    until(lambda: not talker()["running"], "the end of the work")
    after = talker()
    assert after["completion_tokens"] - before["completion_tokens"] < 400


async def test_async_client_has_the_same_calls(models_node, by_socket):
    async with by_socket(models_node.node, ollama.AsyncClient, httpx.AsyncHTTPTransport) as client:
        names = [model.model for model in (await client.list()).models]
        assert "talker:latest" in names
        whole = await client.generate("talker", "hi", options=SHORT)
        pieces = [
            piece async for piece in await client.chat("talker", HI, options=SHORT, stream=True)
        ]
        assert pieces[-1].eval_count == whole.eval_count == 8
        assert (await client.show("talker")).capabilities == ["completion"]
        assert (await client.generate("talker", keep_alive="1m")).done_reason == "load"
        assert (await client.ps()).models
        assert (await client.copy("talker", "async-copy")).status == "success"
        assert (await client.delete("async-copy")).status == "success"
        assert [one.status async for one in await client.pull("talker", stream=True)][
            -1
        ] == "success"
        assert (await client.push("talker")).status == "success"
        digest = await client.create_blob(models_node.node.home.parent / "tiny.gguf")
        made = await client.create("async-made", files={"t.gguf": digest}, system="S")
        assert made.status == "success"
        assert (await client.delete("async-made")).status == "success"
        with pytest.raises(ollama.ResponseError):
            await client.embed("talker", "hi")
