"""Tools over Ollama's API: what reaches the model, and how its calls come back."""

from __future__ import annotations

import json
import threading

import pytest

from dreamer.daemon.inference.requests import Message
from dreamer.daemon.inference.tool_forms import tool_form
from dreamer.daemon.inference.tools import ToolCall
from dreamer.daemon.rest.ollama import details
from dreamer.daemon.surfaces.inference import RunText
from dreamer.protocol.inference_limits import TEMPLATE_MAX_BYTES

HI = [{"role": "user", "content": "Rain?"}]
PARAMETERS = {"type": "object", "properties": {"city": {"type": "string"}}}
WEATHER = {
    "type": "function",
    "function": {"name": "get_weather", "description": "Rain", "parameters": PARAMETERS},
}
BODY = {"model": "prod", "messages": HI, "tools": [WEATHER]}
OSLO = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Oslo"}}\n</tool_call>'


def says(ollama, text, size=5):
    pieces = [text[place : place + size] for place in range(0, len(text), size)]
    ollama.node.inference.pieces = [RunText(piece, 1) for piece in pieces]


def test_tools_reach_the_model(ollama):
    ollama.lines("/api/chat", BODY)
    assert json.loads(ollama.asked().tools.text) == [WEATHER]
    assert ollama.asked().tools.choice == "auto"
    ollama.lines("/api/chat", {**BODY, "tools": []})
    assert ollama.asked().tools is None


def test_stream_tells_each_call_whole(ollama):
    says(ollama, f"I look.\n{OSLO}\n{OSLO}")
    lines = ollama.lines("/api/chat", BODY)
    assert "".join(line["message"]["content"] for line in lines) == "I look."
    calls = [call for line in lines for call in line["message"].get("tool_calls", [])]
    assert [call["function"] for call in calls] == [
        {"index": 0, "name": "get_weather", "arguments": {"city": "Oslo"}},
        {"index": 1, "name": "get_weather", "arguments": {"city": "Oslo"}},
    ]
    assert [line["done"] for line in lines[-2:]] == [False, True]
    assert lines[-1]["done_reason"] == "stop"


def test_whole_answer_has_its_calls(ollama):
    says(ollama, OSLO)
    _, answer = ollama.ask("/api/chat", {**BODY, "stream": False})
    (call,) = answer["message"]["tool_calls"]
    assert (answer["message"]["content"], call["function"]["name"]) == ("", "get_weather")


def test_thoughts_are_told_apart(ollama):
    says(ollama, f"<think>\nHm.\n</think>\n\nI look.\n{OSLO}")
    _, answer = ollama.ask("/api/chat", {**BODY, "think": True, "stream": False})
    message = answer["message"]
    assert (message["thinking"], message["content"]) == ("Hm.", "I look.")
    assert len(message["tool_calls"]) == 1
    lines = ollama.lines("/api/chat", {**BODY, "think": True})
    assert "".join(line["message"].get("thinking", "") for line in lines) == "Hm."
    body = {"model": "prod", "prompt": "hi", "think": "low"}
    lines = ollama.lines("/api/generate", body)
    assert "".join(line.get("thinking", "") for line in lines) == "Hm."
    assert "".join(line["response"] for line in lines) == f"I look.\n{OSLO}"


@pytest.mark.parametrize(
    ("think", "asked"), [(True, True), (False, False), ("high", True), (None, None)]
)
def test_wish_to_think_reaches_the_model(ollama, think, asked):
    ollama.lines("/api/chat", {"model": "prod", "messages": HI, "think": think})
    assert ollama.asked().thinking is asked


def test_call_that_is_cut_off_is_none(ollama):
    says(ollama, OSLO, 1)
    body = {**BODY, "stream": False, "options": {"num_predict": OSLO.index("Os")}}
    _, answer = ollama.ask("/api/chat", body)
    assert answer["done_reason"] == "length"
    assert answer["message"] == {"role": "assistant", "content": ""}


@pytest.mark.parametrize("arguments", ["{'a': 1}", '{"a": 1,}', '{"a": [1}'])
def test_call_whose_arguments_cannot_be_read_is_told_as_text(ollama, arguments):
    says(ollama, OSLO.replace('{"city": "Oslo"}', arguments))
    _, answer = ollama.ask("/api/chat", {**BODY, "stream": False})
    text = f'{{"name": "get_weather", "arguments": {arguments}}}'
    assert answer["message"] == {"role": "assistant", "content": text}


def test_call_that_the_model_never_ends_is_told_as_text(ollama):
    says(ollama, OSLO[: OSLO.index("Os")])
    lines = ollama.lines("/api/chat", BODY)
    said = "".join(line["message"]["content"] for line in lines)
    assert said == '{"name": "get_weather", "arguments": {"city": "}'
    assert not any("tool_calls" in line["message"] for line in lines)


def test_logprobs_come_with_words_only(ollama):
    says(ollama, f"Well.\n{OSLO}\nDone.", 1)
    _, answer = ollama.ask("/api/chat", {**BODY, "stream": False, "logprobs": True})
    words = "".join(one["token"] for one in answer["logprobs"])
    assert words.startswith("Well.")
    assert words.endswith("Done.")
    assert '{"city"' not in words


def _asked(name, call_id=None):
    function = {"name": name, "arguments": {"x": 1}}
    return {"function": function, **({"id": call_id} if call_id else {})}


@pytest.mark.parametrize(
    ("results", "ids"),
    [
        # By the name of the tool, whatever their order; without one, one after the other.
        ([{"tool_name": "b"}, {"tool_name": "a"}], [("call_1", "b"), ("call_0", "a")]),
        ([{}, {}], [("call_0", "a"), ("call_1", "b")]),
        ([{"name": "b"}], [("call_1", "b")]),
        ([{"tool_call_id": "call_1"}], [("call_1", "b")]),
        ([{"tool_name": "c"}], [("", "c")]),
        ([{}, {}, {}], [("call_0", "a"), ("call_1", "b"), ("", "")]),
    ],
)
def test_results_find_their_calls(ollama, results, ids):
    called = {"role": "assistant", "tool_calls": [_asked("a"), _asked("b")]}
    told = [{"role": "tool", "content": "r", **one} for one in results]
    ollama.lines("/api/chat", {"model": "prod", "messages": [*HI, called, *told]})
    _, assistant, *turns = ollama.asked().messages
    calls = (ToolCall("a", '{"x": 1}', "call_0"), ToolCall("b", '{"x": 1}', "call_1"))
    assert assistant == Message("assistant", "", calls)
    assert turns == [Message("tool", "r", (), call_id, name) for call_id, name in ids]


def test_ids_that_were_given_stay(ollama):
    called = {"role": "assistant", "tool_calls": [_asked("a", "mine")]}
    told = {"role": "tool", "content": "r", "tool_name": "a"}
    ollama.lines("/api/chat", {"model": "prod", "messages": [*HI, called, told]})
    assert ollama.asked().messages[-1].tool_call_id == "mine"


@pytest.mark.parametrize(
    ("template", "capabilities"),
    [
        ("{% if tools %}<tool_call>{{ tools }}{% endif %}", ["completion", "tools"]),
        ("{% if tools %}{{ tools }}{% endif %}", ["completion"]),
        ("{{ messages }}", ["completion"]),
        ("{% if enable_thinking %}{% endif %}", ["completion", "thinking"]),
        ([{"name": "default", "template": "x"},
          {"name": "tool_use", "template": "{{ tools }}<tool_call>"}], ["completion", "tools"]),
    ],
)  # fmt: skip
def test_models_that_know_tools_say_so(ollama, directory, template, capabilities):
    (directory / "tokenizer_config.json").write_text(json.dumps({"chat_template": template}))
    assert ollama.ask("/api/show", {"model": "prod"})[1]["capabilities"] == capabilities


def test_a_model_can_not_begin_with_calls(ollama):
    turns = [*HI, {"role": "assistant", "tool_calls": [_asked("a")]}]
    body = {"model": "new", "from": "prod", "messages": turns, "stream": False}
    status, answer = ollama.ask("/api/create", body)
    assert (status, "words only" in answer["error"]) == (400, True)


@pytest.mark.parametrize(
    ("fields", "asked"),
    [
        ({}, (None, True)),
        ({"options": {"num_ctx": 2048}}, (2048, True)),
        ({"truncate": False}, (None, False)),
    ],
)
@pytest.mark.parametrize("path", ["/api/chat", "/api/generate"])
def test_context_and_what_becomes_of_longer_prompts_go_along(ollama, path, fields, asked):
    ollama.lines(path, {"model": "prod", "messages": HI, "prompt": "hi", **fields})
    assert (ollama.asked().context, ollama.asked().truncate) == asked


@pytest.mark.parametrize("extra", [0, 1])
def test_template_that_is_too_long_to_be_used_is_not_read(ollama, directory, extra):
    template = "{{ tools }}<tool_call>"
    template += " " * (TEMPLATE_MAX_BYTES + extra - len(template))
    (directory / "tokenizer_config.json").write_text(json.dumps({}))
    (directory / "chat_template.jinja").write_text(template)
    _, shown = ollama.ask("/api/show", {"model": "prod"})
    assert ("tools" in shown["capabilities"]) is (extra == 0)
    assert len(shown["template"]) == (0 if extra else TEMPLATE_MAX_BYTES)


def test_template_is_searched_once_however_often_it_is_shown(ollama, directory, monkeypatch):
    searched = []

    def search(template):
        searched.append(threading.current_thread())
        return tool_form(template)

    monkeypatch.setattr(details, "tool_form", search)
    for _ in range(3):
        ollama.ask("/api/show", {"model": "prod"})
    # In a thread beside the event loop: it may take a while.
    assert [one.name.startswith("asyncio_") for one in searched] == [True]
