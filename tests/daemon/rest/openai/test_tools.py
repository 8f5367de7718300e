"""Tools over OpenAI's API: what reaches the model, and how its calls come back."""

from __future__ import annotations

import json

import pytest

from dreamer.daemon.inference.requests import Message
from dreamer.daemon.inference.tools import ToolCall, Tools
from dreamer.daemon.surfaces.inference import RunText

PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
WEATHER = {
    "type": "function",
    "function": {"name": "get_weather", "description": "Rain or not", "parameters": PARAMETERS},
}
PING = {"type": "function", "function": {"name": "ping"}}
OSLO = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Oslo"}}\n</tool_call>'
PINGED = '<tool_call>\n{"name": "ping", "arguments": {}}\n</tool_call>'


def says(openai, text, size=5):
    """Have the model say this, a few characters at a time."""
    pieces = [text[place : place + size] for place in range(0, len(text), size)]
    openai.inference.pieces = [RunText(piece, 1) for piece in pieces]


def test_tools_reach_the_model_as_templates_take_them(openai):
    openai.chat(tools=[{**WEATHER, "strict": True}, PING])
    tools = openai.asked.tools
    empty = {"type": "object", "properties": {}}
    ping = {"type": "function", "function": {"name": "ping", "parameters": empty}}
    assert json.loads(tools.text) == [WEATHER, ping]
    assert (tools.choice, tools.function, tools.parallel) == ("auto", "", True)


@pytest.mark.parametrize(
    ("said", "choice", "function"),
    [
        ("auto", "auto", ""),
        ("required", "required", ""),
        ({"type": "function", "function": {"name": "ping"}}, "required", "ping"),
    ],
)
@pytest.mark.parametrize("parallel", [True, False])
def test_choice_reaches_the_model(openai, said, choice, function, parallel):
    openai.chat(tools=[WEATHER, PING], tool_choice=said, parallel_tool_calls=parallel)
    tools = openai.asked.tools
    assert tools == Tools(tools.text, choice, function, parallel)


@pytest.mark.parametrize("fields", [{"tools": [PING], "tool_choice": "none"}, {"tools": []}])
def test_tools_that_must_not_be_called_are_left_out(openai, fields):
    says(openai, PINGED)
    message = openai.chat(**fields)["choices"][0]["message"]
    assert openai.asked.tools is None
    assert (message["content"], "tool_calls" in message) == (PINGED, False)


def test_calls_and_results_reach_the_model(openai):
    call = {"id": "call_1", "type": "function",
            "function": {"name": "get_weather", "arguments": '{"city": "Oslo"}'}}  # fmt: skip
    openai.chat(
        messages=[
            {"role": "user", "content": "Rain?"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "no"}]},
            {"role": "tool", "tool_call_id": "other", "content": "?"},
        ]
    )
    assert openai.asked.messages == (
        Message("user", "Rain?"),
        Message("assistant", "", (ToolCall("get_weather", '{"city": "Oslo"}', "call_1"),)),
        Message("tool", "no", (), "call_1", "get_weather"),
        Message("tool", "?", (), "other", ""),
    )


def test_whole_answer_has_its_calls(openai):
    says(openai, f"{OSLO}\n{PINGED}")
    (choice,) = openai.chat(tools=[WEATHER, PING])["choices"]
    message = choice["message"]
    assert (choice["finish_reason"], message["content"]) == ("tool_calls", None)
    first, second = message["tool_calls"]
    assert first.pop("id").startswith("call_")
    assert first == {
        "type": "function",
        "function": {"name": "get_weather", "arguments": '{"city": "Oslo"}'},
    }
    assert second["function"] == {"name": "ping", "arguments": "{}"}


@pytest.mark.parametrize(("parallel", "calls"), [(False, 1), (True, 2), (None, 2)])
def test_without_parallel_calls_those_after_the_first_are_left_out(openai, parallel, calls):
    says(openai, f"{OSLO}\n{PINGED}\nDone.")
    fields = {"tools": [WEATHER, PING], "parallel_tool_calls": parallel}
    (choice,) = openai.chat(**fields)["choices"]
    assert (choice["finish_reason"], choice["message"]["content"]) == ("tool_calls", "Done.")
    assert len(choice["message"]["tool_calls"]) == calls
    *chunks, _ = openai.stream("/chat/completions", **fields)
    told = [one for chunk in chunks for one in chunk["choices"][0]["delta"].get("tool_calls", ())]
    assert {one["index"] for one in told} == set(range(calls))


def test_words_before_a_call_are_the_content(openai):
    says(openai, f"I look.\n\n{OSLO}")
    message = openai.chat(tools=[WEATHER])["choices"][0]["message"]
    assert (message["content"], len(message["tool_calls"])) == ("I look.", 1)


def test_answer_without_calls_is_as_ever(openai):
    (choice,) = openai.chat(tools=[WEATHER])["choices"]
    assert choice["finish_reason"] == "stop"
    assert choice["message"]["content"] == "Hello wörld\x1b[31m"
    assert "tool_calls" not in choice["message"]


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_stream_tells_id_and_name_first_and_then_the_arguments(openai, size):
    says(openai, f"Well.\n{OSLO}\n{PINGED}", size)
    *chunks, done = openai.stream("/chat/completions", tools=[WEATHER, PING])
    assert done == "[DONE]"
    deltas = [chunk["choices"][0]["delta"] for chunk in chunks]
    assert deltas[0] == {"role": "assistant", "content": None, "refusal": None}
    assert "".join(one.get("content") or "" for one in deltas) == "Well."
    calls = [one["tool_calls"][0] for one in deltas if "tool_calls" in one]
    begun = [one for one in calls if "id" in one]
    assert [(one["index"], one["type"]) for one in begun] == [(0, "function"), (1, "function")]
    assert [one["function"] for one in begun] == [
        {"name": "get_weather", "arguments": ""},
        {"name": "ping", "arguments": ""},
    ]
    assert begun[0]["id"] != begun[1]["id"]
    for index, arguments in enumerate(('{"city": "Oslo"}', "{}")):
        own = [one["function"]["arguments"] for one in calls if one["index"] == index]
        assert "".join(own) == arguments
    assert [chunk["choices"][0]["finish_reason"] for chunk in chunks[-2:]] == [None, "tool_calls"]


def test_nothing_of_a_call_is_ever_content_in_a_stream(openai):
    says(openai, OSLO, 1)
    chunks = openai.stream("/chat/completions", tools=[WEATHER])[:-1]
    assert not [one for one in chunks if one["choices"][0]["delta"].get("content")]


def test_call_that_is_cut_off_ends_with_length(openai):
    says(openai, OSLO, 1)
    limit = OSLO.index("Os")
    (choice,) = openai.chat(tools=[WEATHER], max_tokens=limit)["choices"]
    assert choice["finish_reason"] == "length"
    (call,) = choice["message"]["tool_calls"]
    assert call["function"] == {"name": "get_weather", "arguments": '{"city": "'}
    chunks = openai.stream("/chat/completions", tools=[WEATHER], max_tokens=limit)[:-1]
    assert chunks[-1]["choices"][0]["finish_reason"] == "length"


def test_each_choice_has_calls_of_its_own(openai):
    says(openai, OSLO)
    value = openai.chat(tools=[WEATHER], n=2)
    first, second = (one["message"]["tool_calls"][0] for one in value["choices"])
    assert first["id"] != second["id"]
    assert first["function"] == second["function"]
    chunks = openai.stream("/chat/completions", tools=[WEATHER], n=2)[:-1]
    for index in (0, 1):
        own = [one["choices"][0] for one in chunks if one["choices"][0]["index"] == index]
        calls = [one["delta"]["tool_calls"][0] for one in own if "tool_calls" in one["delta"]]
        assert "".join(one["function"]["arguments"] for one in calls) == '{"city": "Oslo"}'


def test_logprobs_are_of_what_was_said_not_of_calls(openai):
    says(openai, f"Well.\n{OSLO}")
    events = openai.stream("/chat/completions", tools=[WEATHER], logprobs=True)[:-1]
    told = [one["choices"][0]["logprobs"] for one in events]
    words = [token["token"] for one in told if one for token in one["content"]]
    assert words == ["Well."]
    says(openai, f"Well.\n{OSLO}\nDone.", 1)
    events = openai.stream("/chat/completions", tools=[WEATHER], logprobs=True)[:-1]
    told = [one["choices"][0]["logprobs"] for one in events]
    words = [token["token"] for one in told if one for token in one["content"]]
    assert "".join(words).endswith("Done.")
    assert '{"city"' not in "".join(words)


def test_thoughts_and_calls_go_together(openai):
    says(openai, f"<think>{PINGED} maybe?</think>\nI look.\n{OSLO}")
    wish = {"chat_template_kwargs": {"enable_thinking": True}}
    message = openai.chat(tools=[WEATHER], **wish)["choices"][0]["message"]
    assert message["reasoning_content"] == f"{PINGED} maybe?"
    assert message["content"] == "I look."
    assert [call["function"]["name"] for call in message["tool_calls"]] == ["get_weather"]


def test_tools_and_a_schema_go_together(openai):
    schema = {"type": "json_object"}
    openai.chat(tools=[PING], response_format=schema)
    assert openai.asked.grammar is not None
    assert openai.asked.tools is not None
