"""PyPI's ``openai`` on a real node: over TCP with its token for a key, and over the Unix socket."""

from __future__ import annotations

import asyncio
import json
from typing import Literal

import httpx2
import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel, ConfigDict

pytestmark = [pytest.mark.interop, pytest.mark.timeout(180)]

HI = [{"role": "user", "content": "Say something."}]
GREEDY = {"model": "talker", "messages": HI, "max_tokens": 8, "temperature": 0}


class Verdict(BaseModel):
    """What a structured answer holds: small enough for a model that knows nothing."""

    model_config = ConfigDict(extra="forbid")
    word: Literal["yes", "no"]
    number: Literal[1, 2]


@pytest.fixture(scope="module")
def client(models_node):
    with OpenAI(base_url=f"{models_node.url}/v1", api_key=models_node.token, max_retries=0) as one:
        yield one


@pytest.fixture
async def async_client(models_node):
    async with AsyncOpenAI(base_url=f"{models_node.url}/v1", api_key=models_node.token) as one:
        yield one


@pytest.fixture(scope="module")
def spoken(client):
    """What the model says to HI: the same wherever and however it is asked."""
    return client.chat.completions.create(**GREEDY).choices[0].message.content


def test_chat(client):
    answer = client.chat.completions.create(**GREEDY)
    (choice,) = answer.choices
    assert (choice.finish_reason, choice.message.role) == ("length", "assistant")
    assert choice.message.content.strip()
    assert answer.usage.completion_tokens == 8
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + 8
    assert answer.usage.prompt_tokens_details.cached_tokens >= 0
    assert answer.system_fingerprint.startswith("fp_")


def test_stream_says_what_the_answer_says_piece_by_piece(client, spoken):
    with client.chat.completions.create(
        **GREEDY, stream=True, stream_options={"include_usage": True}
    ) as stream:
        *chunks, last = stream
    assert last.usage.completion_tokens == 8
    pieces = [one.choices[0].delta.content or "" for one in chunks]
    assert "".join(pieces) == spoken
    assert len([piece for piece in pieces if piece]) > 1
    assert chunks[0].choices[0].delta.role == "assistant"
    assert [one.choices[0].finish_reason for one in chunks][-1] == "length"


def test_stream_helper_of_the_client_puts_the_answer_together(client, spoken):
    # It takes an answer that was cut for an error: this one ends by itself.
    stop = spoken[2:4]
    with client.chat.completions.stream(**GREEDY, stop=stop) as stream:
        kinds = {event.type for event in stream}
        final = stream.get_final_completion()
    assert {"chunk", "content.delta", "content.done"} <= kinds
    assert final.choices[0].message.content == spoken[: spoken.index(stop)]


def test_headers_say_who_ran_it(client, models_node):
    raw = client.chat.completions.with_raw_response.create(
        **GREEDY, extra_headers={"X-Dreamer-Prefer": "local"}
    )
    assert raw.headers["x-dreamer-node"] == models_node.node.dreamer("status")["node_id"]
    assert raw.headers["x-dreamer-where"] == "local"
    assert "prefill;dur=" in raw.headers["server-timing"]
    assert raw.parse()._request_id == raw.parse().id


def test_seed_gives_the_same_again_and_each_choice_its_own(client):
    def drawn(seed):
        answer = client.chat.completions.create(
            **{**GREEDY, "temperature": 1.0, "max_tokens": 16}, n=2, seed=seed
        )
        return [choice.message.content for choice in answer.choices]

    first = drawn(7)
    assert len(set(first)) == 2
    assert drawn(7) == first
    assert drawn(8) != first


def test_stop_string_ends_the_answer_before_it(client, spoken):
    stop = spoken[2:4]
    answer = client.chat.completions.create(**GREEDY, stop=[stop])
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].message.content == spoken[: spoken.index(stop)]


def test_bias_forces_a_token_and_logprobs_tell_of_it(client):
    plain = client.chat.completions.create(
        **{**GREEDY, "max_tokens": 1}, logprobs=True, top_logprobs=3
    )
    (told,) = plain.choices[0].logprobs.content
    assert told.token == plain.choices[0].message.content
    assert told.logprob <= 0
    assert told.top_logprobs[0].token == told.token
    assert len(told.top_logprobs) == 3
    biased = client.chat.completions.create(**GREEDY, logit_bias={"40": 100})
    assert len(set(biased.choices[0].message.content)) == 1


def test_options_that_other_servers_have_come_as_extra_body(client, spoken):
    extra = {"top_k": 1, "min_p": 0.1, "repetition_penalty": 1.0}
    answer = client.chat.completions.create(**{**GREEDY, "temperature": 1.0}, extra_body=extra)
    # Of one token to draw from, the likeliest is drawn.
    assert answer.choices[0].message.content == spoken


def test_json_mode_gives_json_as_far_as_it_gets(client):
    answer = client.chat.completions.create(
        **{**GREEDY, "max_tokens": 64}, response_format={"type": "json_object"}
    )
    assert answer.choices[0].message.content.lstrip().startswith("{")


def test_schema_of_a_pydantic_model_is_kept_to(client):
    answer = client.chat.completions.parse(
        **{**GREEDY, "max_tokens": 420, "temperature": 1.0}, response_format=Verdict
    )
    assert isinstance(answer.choices[0].message.parsed, Verdict)
    assert answer.choices[0].finish_reason == "stop"


def test_completions_of_texts_and_of_tokens(client):
    asked = {"model": "talker", "max_tokens": 4, "temperature": 0}
    one = client.completions.create(prompt="hello", **asked)
    both = client.completions.create(prompt=["hello", "world"], **asked)
    assert [choice.index for choice in both.choices] == [0, 1]
    assert both.choices[0].text == one.choices[0].text
    assert client.completions.create(prompt=[40, 41, 42], **asked).usage.prompt_tokens == 3
    echoed = client.completions.create(prompt="hello", echo=True, **asked)
    assert echoed.choices[0].text == "hello" + one.choices[0].text
    chunks = list(client.completions.create(prompt="hello", stream=True, **asked))
    assert "".join(chunk.choices[0].text for chunk in chunks) == one.choices[0].text
    told = client.completions.create(prompt="hello", logprobs=2, **asked).choices[0].logprobs
    assert len(told.tokens) == len(told.token_logprobs) == len(told.top_logprobs) == 4


def test_embeddings_as_the_client_decodes_them(client, embedder):
    texts = ["red cat", "cat red", "the blue dog and the black dog"]
    # By default the client asks for base64 and decodes it.
    answer = client.embeddings.create(model=embedder, input=texts)
    vectors = [one.embedding for one in answer.data]
    assert [len(one) for one in vectors] == [8, 8, 8]
    assert vectors[0] == pytest.approx(vectors[1])
    assert vectors[0] != pytest.approx(vectors[2])
    assert sum(value * value for value in vectors[2]) == pytest.approx(1)
    assert answer.usage.prompt_tokens == 11
    plain = client.embeddings.create(model=embedder, input=texts[2], encoding_format="float")
    assert plain.data[0].embedding == pytest.approx(vectors[2])
    short = client.embeddings.create(model=embedder, input=texts[2], dimensions=4)
    assert sum(value * value for value in short.data[0].embedding) == pytest.approx(1)
    with pytest.raises(openai.BadRequestError, match="dimensions"):
        client.embeddings.create(model=embedder, input="red", dimensions=9)
    with pytest.raises(openai.BadRequestError):
        client.embeddings.create(model="talker", input="red")


def test_models_are_listed_and_found(client):
    listed = client.models.list()
    assert "talker" in [model.id for model in listed]
    found = client.models.retrieve("talker")
    assert (found.id, found.object, found.owned_by) == ("talker", "model", "lab")


def test_model_goes_by_alias_id_and_room(client, spoken):
    manifest_id = client.models.retrieve("talker").dreamer["manifest_id"]
    for name in ("talker@lab", manifest_id, manifest_id[:8]):
        answer = client.chat.completions.create(**{**GREEDY, "model": name})
        assert answer.choices[0].message.content == spoken
        assert answer.model == name


def test_errors_are_those_that_the_client_knows(client, models_node):
    with pytest.raises(openai.NotFoundError) as missing:
        client.chat.completions.create(**{**GREEDY, "model": "nobody"})
    assert (missing.value.code, missing.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.BadRequestError) as bad:
        client.chat.completions.create(**{**GREEDY, "temperature": -1})
    assert "temperature" in bad.value.message
    with pytest.raises(openai.BadRequestError, match="shorten"):
        client.chat.completions.create(
            **{**GREEDY, "messages": [{"role": "user", "content": "a " * 2000}]}
        )
    tool = {"type": "function", "function": {"name": "f", "parameters": {}}}
    with pytest.raises(openai.BadRequestError, match="tools"):
        client.chat.completions.create(**GREEDY, tools=[tool])
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("nobody")
    with (
        OpenAI(base_url=f"{models_node.url}/v1", api_key="sk-other", max_retries=0) as other,
        pytest.raises(openai.AuthenticationError, match="api-token"),
    ):
        other.models.list()


def test_errors_come_with_their_status_before_a_stream_begins(client):
    with pytest.raises(openai.NotFoundError):
        client.chat.completions.create(**{**GREEDY, "model": "nobody"}, stream=True)


def test_unix_socket_needs_no_key(models_node, spoken):
    transport = httpx2.HTTPTransport(uds=str(models_node.socket))
    with OpenAI(
        base_url="http://dreamerd/v1",
        api_key="none",
        http_client=httpx2.Client(transport=transport),
    ) as client:
        assert client.chat.completions.create(**GREEDY).choices[0].message.content == spoken
        stream = client.chat.completions.create(**GREEDY, stream=True)
        assert "".join(one.choices[0].delta.content or "" for one in stream) == spoken


async def test_streams_side_by_side_say_what_each_says_alone(async_client, spoken):
    async def streamed():
        stream = await async_client.chat.completions.create(**GREEDY, stream=True)
        return "".join([one.choices[0].delta.content or "" async for one in stream])

    assert await asyncio.gather(*(streamed() for _ in range(6))) == [spoken] * 6
    answer = await async_client.chat.completions.create(**GREEDY)
    assert answer.choices[0].message.content == spoken


async def leave_streams(client, model, max_tokens):
    """Begin more answers than there are slots, and leave each after its first piece."""
    for _ in range(12):
        stream = await client.chat.completions.create(
            **{**GREEDY, "model": model, "max_tokens": max_tokens}, stream=True
        )
        async for _chunk in stream:
            break
        await stream.close()


async def test_streams_that_are_left_hinder_nobody(async_client, spoken):
    await leave_streams(async_client, "talker", 400)
    answer = await async_client.chat.completions.create(**GREEDY)
    assert answer.choices[0].message.content == spoken


def test_model_that_only_a_peer_has_is_answered_all_the_same(asking_node, models_node, spoken):
    server = models_node.node.dreamer("status")["node_id"]
    with OpenAI(base_url=f"{asking_node.url}/v1", api_key=asking_node.token) as client:
        assert "talker" in [model.id for model in client.models.list()]
        raw = client.chat.completions.with_raw_response.create(**GREEDY)
        assert raw.parse().choices[0].message.content == spoken
        assert (raw.headers["x-dreamer-where"], raw.headers["x-dreamer-node"]) == ("peer", server)
        stream = client.chat.completions.create(**{**GREEDY, "model": "talker@lab"}, stream=True)
        assert "".join(one.choices[0].delta.content or "" for one in stream) == spoken
        # The same seed draws the same tokens, wherever it is asked; so every option got there.
        asked = {**GREEDY, "temperature": 1.0, "seed": 5, "logprobs": True, "top_logprobs": 2}
        asked["extra_body"] = {"top_k": 50, "min_p": 0.001, "repetition_penalty": 1.1}
        with OpenAI(base_url=f"{models_node.url}/v1", api_key=models_node.token) as at_home:
            (there,) = at_home.chat.completions.create(**asked).choices
        (here,) = client.chat.completions.create(**asked).choices
        assert here.message.content == there.message.content
        tokens = [one.token for one in there.logprobs.content]
        assert [one.token for one in here.logprobs.content] == tokens
        parsed = client.chat.completions.parse(
            **{**GREEDY, "max_tokens": 420}, response_format=Verdict
        )
        assert isinstance(parsed.choices[0].message.parsed, Verdict)
        with pytest.raises(openai.BadRequestError, match="temperature"):
            client.chat.completions.create(**{**GREEDY, "temperature": -1})
        told = {"X-Dreamer-Prefer": "local"}
        with pytest.raises(openai.APIStatusError, match="pull"):
            client.chat.completions.create(**GREEDY, extra_headers=told)


def test_embeddings_of_a_model_that_only_a_peer_has(asking_node, client, embedder):
    asked = {"model": embedder, "input": ["red cat", "the dog"]}
    here = [one.embedding for one in client.embeddings.create(**asked).data]
    with OpenAI(base_url=f"{asking_node.url}/v1", api_key=asking_node.token) as other:
        raw = other.embeddings.with_raw_response.create(**asked)
    assert raw.headers["x-dreamer-where"] == "peer"
    assert [one.embedding for one in raw.parse().data] == here


async def test_full_queue_is_told_so_that_the_client_tries_again(narrow_node):
    asked = {**GREEDY, "max_tokens": 200}
    async with AsyncOpenAI(
        base_url=f"{narrow_node.url}/v1", api_key=narrow_node.token, max_retries=0
    ) as client:
        # Loaded first, so that all of them are answered soon.
        await client.chat.completions.create(**asked)
        works = [client.chat.completions.create(**asked) for _ in range(16)]
        told = await asyncio.gather(*works, return_exceptions=True)
        refused = [one for one in told if isinstance(one, openai.InternalServerError)]
        assert len(refused) + sum(not isinstance(one, Exception) for one in told) == 16
        assert 0 < len(refused) < 16
        for one in refused:
            assert (one.status_code, one.code) == (503, "busy")
            assert int(one.response.headers["retry-after"]) >= 1
        patient = client.with_options(max_retries=10)
        works = [patient.chat.completions.create(**asked) for _ in range(3)]
        texts = {one.choices[0].message.content for one in await asyncio.gather(*works)}
        assert len(texts) == 1


@pytest.mark.model
def test_smollm2_knows_its_capitals(client, smollm2):
    question = [{"role": "user", "content": "What is the capital of Japan?"}]
    asked = {"model": smollm2, "messages": question, "max_tokens": 24, "temperature": 0}
    answer = client.chat.completions.create(**asked).choices[0].message.content
    assert "Tokyo" in answer
    stream = client.chat.completions.create(**asked, stream=True)
    assert "".join(one.choices[0].delta.content or "" for one in stream) == answer


@pytest.mark.model
async def test_stream_that_is_left_gives_its_slot_back_at_once(async_client, smollm2):
    # Minutes of work, if any of it went on.
    await leave_streams(async_client, smollm2, 1900)
    asked = async_client.chat.completions.create(**{**GREEDY, "model": smollm2})
    answer = await asyncio.wait_for(asked, 30)
    assert answer.usage.completion_tokens == 8


@pytest.mark.model
def test_smollm2_answers_in_json(client, smollm2):
    answer = client.chat.completions.create(
        model=smollm2,
        messages=[{"role": "user", "content": "Name a fruit and its colour, as JSON."}],
        response_format={"type": "json_object"},
        max_tokens=128,
        temperature=0,
    )
    if answer.choices[0].finish_reason == "stop":
        assert isinstance(json.loads(answer.choices[0].message.content), dict)
