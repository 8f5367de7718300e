"""PyPI's ``openai`` has a real node's model call its tools, here and on a peer.

The model knows nothing, so it would never choose to: it has to (``tool_choice``), and what it calls
and with what is its own nonsense within the schema.
"""

from __future__ import annotations

import json
from typing import Literal

import openai
import pytest
from openai import OpenAI
from pydantic import BaseModel, ConfigDict

pytestmark = [pytest.mark.interop, pytest.mark.timeout(180)]

CITIES = ("Oslo", "Rome", "Köln")
PARAMETERS = {
    "type": "object",
    "properties": {
        "city": {"enum": list(CITIES)},
        "days": {"type": "integer", "minimum": 1, "maximum": 9},
    },
    "required": ["city", "days"],
    "additionalProperties": False,
}
WEATHER = {"type": "function", "function": {"name": "get_weather", "parameters": PARAMETERS}}
PING = {"type": "function", "function": {"name": "ping"}}
HI = [{"role": "user", "content": "Will it rain?"}]


class Forecast(BaseModel):
    """What a tool takes, as users of this client describe it."""

    model_config = ConfigDict(extra="forbid")
    place: Literal["north", "south"]


@pytest.fixture(scope="module")
def client(models_node):
    with OpenAI(base_url=f"{models_node.url}/v1", api_key=models_node.token, max_retries=0) as one:
        yield one


@pytest.fixture
def asked(caller):
    return {
        "model": caller,
        "messages": HI,
        "tools": [WEATHER, PING],
        "tool_choice": "required",
        "parallel_tool_calls": False,
        # So hot that all that may come is about as likely.
        "temperature": 20.0,
        "max_tokens": 1000,
    }


def check(call) -> None:
    """See that a call fits its schema."""
    arguments = json.loads(call.function.arguments)
    assert call.id
    assert call.type == "function"
    if call.function.name == "ping":
        assert arguments == {}
    else:
        assert call.function.name == "get_weather"
        assert set(arguments) == {"city", "days"}
        assert arguments["city"] in CITIES
        assert 1 <= arguments["days"] <= 9


def test_required_call_fits_its_schema(client, asked):
    names = set()
    for seed in range(6):
        (choice,) = client.chat.completions.create(**asked, seed=seed).choices
        assert (choice.finish_reason, choice.message.content) == ("tool_calls", None)
        (call,) = choice.message.tool_calls
        check(call)
        names.add(call.function.name)
    assert names == {"get_weather", "ping"}


def test_named_function_is_the_one_that_is_called(client, asked):
    named = {"type": "function", "function": {"name": "get_weather"}}
    answer = client.chat.completions.create(**{**asked, "tool_choice": named}, seed=1)
    (call,) = answer.choices[0].message.tool_calls
    assert call.function.name == "get_weather"
    check(call)


def test_stream_is_put_together_to_the_same_calls(client, asked):
    whole = client.chat.completions.create(**asked, seed=5).choices[0].message.tool_calls
    with client.chat.completions.stream(**asked, seed=5) as stream:
        kinds = [event.type for event in stream]
        (choice,) = stream.get_final_completion().choices
    assert "tool_calls.function.arguments.done" in kinds
    assert "content.delta" not in kinds
    assert choice.finish_reason == "tool_calls"
    (call,) = choice.message.tool_calls
    check(call)
    assert call.function.name == whole[0].function.name
    assert call.function.arguments == whole[0].function.arguments


def test_tool_of_a_pydantic_model_is_parsed_by_the_client(client, asked):
    answer = client.chat.completions.parse(
        **{**asked, "tools": [openai.pydantic_function_tool(Forecast)]}, seed=2
    )
    (call,) = answer.choices[0].message.tool_calls
    assert isinstance(call.function.parsed_arguments, Forecast)


def test_several_calls_come_where_they_may(client, asked):
    several = {**asked, "parallel_tool_calls": True, "max_tokens": 3000, "tools": [PING]}
    numbers = set()
    for seed in range(8):
        (choice,) = client.chat.completions.create(**several, seed=seed).choices
        calls = choice.message.tool_calls
        numbers.add(len(calls))
        assert len({call.id for call in calls}) == len(calls) <= 16
    assert max(numbers) > 1


def test_what_came_of_a_call_goes_on_in_the_conversation(client, asked):
    first = client.chat.completions.create(**asked, seed=3)
    message = first.choices[0].message
    told = {"role": "tool", "tool_call_id": message.tool_calls[0].id, "content": "sunny"}
    answer = client.chat.completions.create(
        **{**asked, "messages": [*HI, message, told], "tool_choice": "auto", "max_tokens": 8}
    )
    assert answer.usage.prompt_tokens > first.usage.prompt_tokens
    assert answer.choices[0].finish_reason == "length"
    assert answer.choices[0].message.tool_calls is None


def test_peer_runs_it_as_well(asking_node, asked, models_node):
    with OpenAI(
        base_url=f"{asking_node.url}/v1", api_key=asking_node.token, max_retries=0
    ) as client:
        raw = client.chat.completions.with_raw_response.create(**asked, seed=5)
    assert raw.headers["x-dreamer-where"] == "peer"
    assert raw.headers["x-dreamer-node"] == models_node.node.dreamer("status")["node_id"]
    (call,) = raw.parse().choices[0].message.tool_calls
    check(call)


def test_answer_may_be_as_long_as_the_context(asking_node, caller):
    with OpenAI(
        base_url=f"{asking_node.url}/v1", api_key=asking_node.token, max_retries=0
    ) as client:
        # It never ends by itself. Said or not, nothing but the context ends it, on a peer as well.
        said = client.chat.completions.create(
            model=caller, messages=HI, temperature=0, max_tokens=5000
        )
        assert said.usage.completion_tokens == 5000
        open_ended = client.chat.completions.create(model=caller, messages=HI, temperature=0)
    assert open_ended.choices[0].finish_reason == "length"
    assert open_ended.usage.total_tokens == 8192
    assert open_ended.choices[0].message.content.startswith(said.choices[0].message.content)


@pytest.mark.parametrize("choice", ["auto", "required"])
def test_model_that_knows_no_tools_says_so(client, asked, choice):
    with pytest.raises(openai.BadRequestError, match="knows nothing of tools"):
        client.chat.completions.create(**{**asked, "model": "talker", "tool_choice": choice})


def test_schema_that_can_not_be_kept_to_is_refused_only_where_it_must_be(client, asked):
    odd = {"type": "object", "properties": {"a": {"not": {"type": "string"}}}, "required": ["a"]}
    tools = [{"type": "function", "function": {"name": "odd", "parameters": odd}}]
    with pytest.raises(openai.BadRequestError, match="can't be used"):
        client.chat.completions.create(**{**asked, "tools": tools})
    answer = client.chat.completions.create(
        **{**asked, "tools": tools, "tool_choice": "auto", "max_tokens": 4}
    )
    assert answer.usage.completion_tokens == 4
