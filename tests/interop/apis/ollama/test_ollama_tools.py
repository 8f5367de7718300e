"""The PyPI client ``ollama`` and a real node: tools, and contexts that are shorter than prompts."""

from __future__ import annotations

import ollama
import pytest

pytestmark = [pytest.mark.interop, pytest.mark.timeout(180)]

HI = [{"role": "user", "content": "Will it rain?"}]
SHORT = {"temperature": 0, "num_predict": 8}
VERDICT = {
    "type": "object",
    "properties": {"rain": {"enum": ["yes", "no"]}},
    "required": ["rain"],
    "additionalProperties": False,
}
CITY = {"type": "object", "properties": {"city": {"enum": ["Oslo", "Rome"]}}, "required": ["city"]}
WEATHER = {"type": "function", "function": {"name": "get_weather", "parameters": CITY}}


def get_weather(city: str) -> str:
    """Tell of the weather.

    Args:
      city: where
    """
    return f"rain in {city}"


def test_model_that_knows_tools_says_so(client, caller):
    assert client.show(caller).capabilities == ["completion", "tools"]
    assert client.show("talker").capabilities == ["completion"]


def test_function_of_pythons_is_offered_and_its_result_told(client, caller):
    plain = client.chat(caller, HI, options=SHORT)
    offered = client.chat(caller, HI, tools=[get_weather], options=SHORT)
    assert offered.prompt_eval_count > plain.prompt_eval_count
    assert offered.message.tool_calls is None
    call = {"function": {"name": "get_weather", "arguments": {"city": "Oslo"}}}
    turns = [
        *HI,
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "tool_name": "get_weather", "content": get_weather("Oslo")},
    ]
    told = client.chat(caller, turns, tools=[get_weather], options=SHORT)
    assert told.prompt_eval_count > offered.prompt_eval_count


def test_calls_come_whole_streamed_and_in_one(client, caller):
    # Kept to a schema or a call, a model that knows nothing does sometimes this, sometimes that.
    asked = {"model": caller, "messages": HI, "tools": [WEATHER], "format": VERDICT}
    kinds = set()
    for seed in range(10):
        options = {"temperature": 20.0, "seed": seed, "num_predict": 1500}
        message = client.chat(**asked, options=options).message
        calls = message.tool_calls or []
        assert bool(message.content) != bool(calls)
        kinds.add(bool(calls))
        for call in calls:
            assert call.function.name == "get_weather"
            # The client leaves out that there may be nothing else.
            assert call.function.arguments["city"] in ("Oslo", "Rome")
        pieces = list(client.chat(**asked, options=options, stream=True))
        assert "".join(piece.message.content for piece in pieces) == message.content
        streamed = [call for piece in pieces for call in piece.message.tool_calls or []]
        assert streamed == calls
    assert kinds == {True, False}


def test_model_that_knows_no_tools_says_so_when_it_is_asked(client):
    with pytest.raises(ollama.ResponseError, match="knows nothing of tools") as refused:
        client.chat("talker", HI, tools=[get_weather])
    assert refused.value.status_code == 400


def test_prompt_longer_than_its_context_loses_the_oldest_turns(client):
    turns = [{"role": "user", "content": f"{number} {'word ' * 10}"} for number in range(10)]
    system = {"role": "system", "content": "Be brief."}
    options = {**SHORT, "num_ctx": 128}
    cut = client.chat("talker", [system, *turns], options=options)
    assert cut.prompt_eval_count <= 120
    # Nothing else than the system message and the last turns was read.
    kept = client.chat("talker", [system, turns[-1]], options=SHORT).prompt_eval_count
    assert kept <= cut.prompt_eval_count
    same = client.chat("talker", [system, *turns[6:]], options=options)
    assert (same.prompt_eval_count, same.message.content) == (
        cut.prompt_eval_count,
        cut.message.content,
    )


def test_context_bounds_prompt_and_answer_together(client):
    told = client.generate("talker", "Say something.", options={"temperature": 0, "num_ctx": 64})
    assert told.done_reason == "length"
    assert told.prompt_eval_count + told.eval_count == 64


def test_prompt_beyond_the_models_own_context_is_cut_or_refused(client):
    long = "word " * 1000
    told = client.generate("talker", long, options={**SHORT, "num_ctx": 100_000})
    assert told.prompt_eval_count == 512 - 8
    body = {"model": "talker", "prompt": long, "truncate": False, "stream": False}
    with pytest.raises(ollama.ResponseError, match="has room for 512") as refused:
        client._request_raw("POST", "/api/generate", json=body)
    assert refused.value.status_code == 400
