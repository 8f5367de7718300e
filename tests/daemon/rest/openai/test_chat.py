"""Chat: what it answers, whole and streamed, and what of a request reaches the model."""

import json

import pytest

from dreamer.daemon.inference.requests import Message, TokenLogprob
from dreamer.daemon.inference.sampling_options import Grammar, Sampling
from dreamer.daemon.rest import outgoing
from dreamer.daemon.rest.openai.logprobs import chat_logprobs
from dreamer.daemon.surfaces.inference import RunEnded, RunStarted, RunText
from dreamer.protocol.inference_limits import GENERATE_MAX_TOKENS

TEXT = "Hello wörld\x1b[31m"
WAIT_S = 10.0


def test_answer_has_the_form_that_clients_read(openai):
    value = openai.chat()
    head = {key: value.pop(key) for key in ("id", "created", "system_fingerprint")}
    assert head["id"].startswith("chatcmpl-")
    assert isinstance(head["created"], int)
    assert head["system_fingerprint"] == "fp_" + "ab" * 5
    assert value == {
        "object": "chat.completion",
        "model": "prod",
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": TEXT, "refusal": None},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ],
        "usage": {
            "prompt_tokens": 5,
            "completion_tokens": 3,
            "total_tokens": 8,
            "prompt_tokens_details": {"cached_tokens": 2},
        },
    }


def test_stream_has_role_pieces_reason_and_done_in_this_order(openai):
    *chunks, done = openai.stream("/chat/completions")
    assert done == "[DONE]"
    assert {chunk["object"] for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk["id"] for chunk in chunks}) == 1
    assert [chunk["choices"][0]["delta"] for chunk in chunks] == [
        {"role": "assistant", "content": "", "refusal": None},
        {"content": "Hello "},
        {"content": "wörld\x1b[31m"},
        {},
    ]
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks] == [None, None, None, "stop"]
    assert all("usage" not in chunk for chunk in chunks)


def test_stream_with_usage_tells_it_in_a_last_chunk_without_choices(openai):
    events = openai.stream("/chat/completions", stream_options={"include_usage": True})
    *chunks, last, done = events
    assert done == "[DONE]"
    assert (last["choices"], last["usage"]["total_tokens"]) == ([], 8)
    assert all(chunk["usage"] is None for chunk in chunks)


@pytest.mark.parametrize("field", ["max_tokens", "max_completion_tokens"])
def test_answer_that_reaches_its_limit_says_so(openai, field):
    choice = openai.chat(**{field: 1})["choices"][0]
    assert (choice["message"]["content"], choice["finish_reason"]) == ("Hello ", "length")
    last = openai.stream("/chat/completions", **{field: 1})[-2]
    assert last["choices"][0]["finish_reason"] == "length"


def test_more_tokens_than_any_answer_has_are_no_mistake(openai):
    assert openai.chat(max_tokens=10**6)["choices"][0]["finish_reason"] == "stop"
    assert (openai.asked.max_tokens, openai.asked.open_ended) == (GENERATE_MAX_TOKENS, False)


def test_answer_of_no_said_length_is_open_ended(openai):
    openai.chat()
    assert (openai.asked.max_tokens, openai.asked.open_ended) == (GENERATE_MAX_TOKENS, True)


def test_defaults_are_those_of_openai(openai):
    openai.chat()
    assert openai.asked.sampling == Sampling(temperature=1.0)
    assert (openai.asked.stop, openai.asked.grammar, openai.asked.logprobs) == ((), None, None)


def test_null_is_the_same_as_nothing(openai):
    numbers = ("temperature", "top_p", "n", "seed", "max_tokens", "logit_bias")
    others = ("stop", "stream", "stream_options", "tools", "tool_choice", "functions", "logprobs")
    names = (*numbers, *others, "response_format")
    openai.chat(**dict.fromkeys(names))
    assert openai.asked.sampling == Sampling(temperature=1.0)


def test_every_option_reaches_the_model(openai):
    openai.chat(
        temperature=0.5, top_p=0.9, top_k=40, min_p=0.05, repetition_penalty=1.1,
        repeat_last_n=64, presence_penalty=0.1, frequency_penalty=0.2, seed=7,
        logit_bias={"5": -100, "6": 2.5}, stop=["a", "b", ""], max_tokens=9,
        logprobs=True, top_logprobs=3,
    )  # fmt: skip
    asked = openai.asked
    assert asked.sampling == Sampling(
        0.5, 0.9, 40, 0.05, 1.1, 64, 0.1, 0.2, 7, ((5, -100.0), (6, 2.5))
    )
    assert (asked.stop, asked.max_tokens, asked.logprobs) == (("a", "b"), 9, 3)


def test_one_stop_string_and_top_k_of_minus_one(openai):
    openai.chat(stop="\n", top_k=-1)
    assert (openai.asked.stop, openai.asked.sampling.top_k) == (("\n",), 0)


def test_developers_and_parts_become_what_the_template_knows(openai):
    openai.chat(
        messages=[
            {"role": "developer", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "a"},
                                         {"type": "text", "text": "b"}], "name": "x"},
            {"role": "assistant", "content": None},
            {"role": "user", "content": ""},
        ]
    )  # fmt: skip
    assert openai.asked.messages == (
        Message("system", "Be brief."),
        Message("user", "ab"),
        Message("assistant", ""),
        Message("user", ""),
    )


@pytest.mark.parametrize(
    ("fields", "thinking"),
    [
        ({}, None),
        ({"chat_template_kwargs": {"enable_thinking": True, "other": 1}}, True),
        ({"chat_template_kwargs": {"enable_thinking": False}}, False),
        ({"chat_template_kwargs": {"thinking": True}}, True),
        ({"reasoning_effort": "none"}, False),
        ({"reasoning_effort": "none", "chat_template_kwargs": {"thinking": True}}, True),
        ({"reasoning_effort": "high"}, None),
    ],
)
def test_wish_to_think_reaches_the_model(openai, fields, thinking):
    openai.chat(**fields)
    assert openai.asked.thinking is thinking


THOUGHTS = {"chat_template_kwargs": {"enable_thinking": True}}


@pytest.mark.parametrize("size", [1, 4, 100])
def test_thoughts_are_told_apart_from_what_is_said(openai, size):
    text = "<think>\nHm, wörld.\n</think>\n\nHello <think>"
    pieces = [text[place : place + size] for place in range(0, len(text), size)]
    openai.inference.pieces = [RunText(piece, 1) for piece in pieces]
    message = openai.chat(**THOUGHTS)["choices"][0]["message"]
    assert message["content"] == "Hello <think>"
    assert message["reasoning_content"] == "Hm, wörld."
    chunks = openai.stream("/chat/completions", **THOUGHTS)[:-1]
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert "".join(one.get("reasoning_content", "") for one in deltas) == "Hm, wörld."
    assert "".join(one.get("content") or "" for one in deltas) == "Hello <think>"
    # Without the wish all of it is what the model says, as other servers have it.
    assert openai.chat()["choices"][0]["message"]["content"] == text


def test_json_modes_become_grammars(openai):
    openai.chat(response_format={"type": "json_object"})
    assert openai.asked.grammar == Grammar("json")
    openai.inference.asked.clear()
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}}
    wanted = {"name": "A", "strict": True, "schema": schema}
    openai.chat(response_format={"type": "json_schema", "json_schema": wanted})
    assert openai.asked.grammar.kind == "schema"
    assert json.loads(openai.asked.grammar.text) == schema
    openai.inference.asked.clear()
    openai.chat(response_format={"type": "text"})
    assert openai.asked.grammar is None


def test_logprobs_come_with_their_alternatives(openai):
    value = openai.chat(logprobs=True, top_logprobs=2)["choices"][0]["logprobs"]
    first = value["content"][0]
    assert (first["token"], first["logprob"]) == ("Hello ", -0.5)
    assert first["bytes"] == list(b"Hello ")
    assert [one["token"] for one in first["top_logprobs"]] == ["t0", "t1"]
    assert len(value["content"]) == 3
    chunks = openai.stream("/chat/completions", logprobs=True)[:-1]
    told = [chunk["choices"][0]["logprobs"] for chunk in chunks]
    assert told[0] is None
    assert told[1]["content"][0]["top_logprobs"] == []


def test_several_choices_have_seeds_of_their_own_and_one_usage(openai):
    value = openai.chat(n=3, seed=-2)
    assert [one["index"] for one in value["choices"]] == [0, 1, 2]
    assert {one["message"]["content"] for one in value["choices"]} == {TEXT}
    assert value["usage"]["prompt_tokens"] == 5
    assert value["usage"]["completion_tokens"] == 9
    seeds = [request.sampling.seed for _, _, request, _ in openai.inference.asked]
    assert len(set(seeds)) == 3
    assert all(0 <= seed < 2**63 for seed in seeds)
    before = list(seeds)
    openai.inference.asked.clear()
    openai.chat(n=3, seed=-2)
    assert [request.sampling.seed for _, _, request, _ in openai.inference.asked] == before


def test_several_choices_stream_side_by_side(openai):
    *chunks, done = openai.stream("/chat/completions", n=2)
    assert done == "[DONE]"
    for index in (0, 1):
        own = [one["choices"][0] for one in chunks if one["choices"][0]["index"] == index]
        assert own[0]["delta"]["role"] == "assistant"
        assert "".join(one["delta"].get("content", "") for one in own) == TEXT
        assert own[-1]["finish_reason"] == "stop"


def test_headers_say_who_ran_it_and_how_long_it_took(openai):
    body = {"model": "prod", "messages": [{"role": "user", "content": "hi"}]}
    _, headers, _ = openai.request("/chat/completions", body)
    assert headers["X-Dreamer-Node"] == "ef" * 32
    assert headers["X-Dreamer-Where"] == "peer"
    timings = dict(one.split(";dur=") for one in headers["Server-Timing"].split(", "))
    assert timings["queue"] == "10.000"
    assert set(timings) == {"queue", "load", "prefill", "first_token", "decode", "total"}
    _, headers, _ = openai.request(
        "/chat/completions", {**body, "stream": True}, {"X-Dreamer-Prefer": "Local"}
    )
    assert headers["X-Dreamer-Where"] == "local"
    assert headers["Server-Timing"].startswith("first_token;dur=")
    assert openai.inference.asked[-1][3].prefer == "local"


def test_unknown_preference_is_refused(openai):
    body = {"model": "prod", "messages": [{"role": "user", "content": "hi"}]}
    status, value = openai.json("/chat/completions", body, {"X-Dreamer-Prefer": "moon"})
    assert status == 400
    assert "auto, local, peer, fastest" in value["error"]["message"]


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize("model", ["slow", "silent"])
@pytest.mark.parametrize("n", [1, 2])
def test_client_that_goes_away_ends_the_generation(openai, model, stream, n):
    connection = openai.served.connection()
    body = {"model": model, "messages": [{"role": "user", "content": "hi"}]}
    connection.request(
        "POST", "/v1/chat/completions", json.dumps({**body, "stream": stream, "n": n}),
        {"Content-Type": "application/json"},
    )  # fmt: skip
    assert openai.inference.begun.wait(WAIT_S)
    assert not openai.inference.cancelled.is_set()
    connection.close()
    assert openai.inference.cancelled.wait(WAIT_S)


def test_error_amid_a_stream_is_its_last_event(openai):
    for n in (1, 2):
        events = openai.stream("/chat/completions", model="breaks", n=n)
        assert events[-1] == {
            "error": {
                "message": "the peer went away; run it again",
                "type": "server_error",
                "param": None,
                "code": "remote",
            }
        }
        assert "[DONE]" not in events


def test_client_that_reads_nothing_is_cut_off(openai, monkeypatch, caplog):
    monkeypatch.setattr(outgoing, "REST_STALLED_CLIENT_TIMEOUT_S", 0.05)
    # More than any buffer between the two holds.
    openai.inference.pieces = [RunText("x" * 4096, 1)] * 4000
    connection = openai.served.connection()
    body = {"model": "prod", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
    head = {"Content-Type": "application/json"}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), head)
    assert openai.inference.closed.wait(WAIT_S)
    rest = b"".join(iter(lambda: connection.sock.recv(2**20), b""))
    assert not rest.endswith(b"0\r\n\r\n")
    connection.close()
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


def test_client_that_leaves_amid_a_stream_leaves_no_error_behind(openai, caplog):
    openai.inference.pieces = [RunText("x" * 4096, 1)] * 4000
    connection = openai.served.connection()
    body = {"model": "prod", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
    head = {"Content-Type": "application/json"}
    connection.request("POST", "/v1/chat/completions", json.dumps(body), head)
    connection.sock.recv(4096)
    connection.close()
    assert openai.inference.closed.wait(WAIT_S)
    openai.served.stop()
    openai.served.stop = lambda: None
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


def test_headers_name_the_node_that_ended_it(openai):
    async def moved(model, request, options):
        yield RunStarted("peer", "01" * 32, "one", "ab" * 32, 5)
        yield RunText("a", 1)
        yield RunStarted("local", "02" * 32, "two", "ab" * 32, 5)
        yield RunEnded("stop", 5, 1, 0.1, 0.2)

    openai.inference.generate = moved
    body = {"model": "prod", "messages": [{"role": "user", "content": "hi"}]}
    _, headers, _ = openai.request("/chat/completions", body)
    assert (headers["X-Dreamer-Node"], headers["X-Dreamer-Where"]) == ("02" * 32, "local")


def test_part_of_a_character_has_no_bytes_of_its_own():
    told = chat_logprobs([TokenLogprob(1, "\ufffd", -1.0), TokenLogprob(2, "ö", -1.0)])
    assert [one["bytes"] for one in told["content"]] == [None, list("ö".encode())]
