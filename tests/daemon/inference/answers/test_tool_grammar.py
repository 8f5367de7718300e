"""An answer that has to call a tool: whatever a model would rather say, it is a call that fits."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from tokenizers import AddedToken, Tokenizer

from dreamer.daemon.inference.answers.answer import Answer
from dreamer.daemon.inference.answers.description import Description, read_description
from dreamer.daemon.inference.requests import GenerateRequest, Message, Text
from dreamer.daemon.inference.sampling_options import Grammar, Sampling
from dreamer.daemon.inference.tool_forms import (
    HERMES,
    LLAMA,
    MISTRAL,
    MISTRAL_NAMED,
    PIPED,
    ToolForm,
    special_marks,
)
from dreamer.daemon.inference.tool_reading import CallArguments, CallBegun, Said, ToolReader
from dreamer.daemon.inference.tools import Tools
from dreamer.protocol.errors import InputError

FORMS = [HERMES, LLAMA, MISTRAL, MISTRAL_NAMED, PIPED]
SCHEMAS: dict[str, dict[str, Any]] = {
    "get_weather": {
        "type": "object",
        "properties": {
            "city": {"$ref": "#/$defs/city"},
            "days": {"type": "integer", "minimum": 1, "maximum": 9},
        },
        "required": ["city", "days"],
        "additionalProperties": False,
        "$defs": {"city": {"enum": ["Oslo", 'K"öln', "</tool_call>"]}},
    },
    "wait": {"type": "object", "properties": {}, "additionalProperties": False},
}


def offered(schemas: dict[str, Any], **how: Any) -> Tools:
    functions = [{"name": name, "parameters": schema} for name, schema in schemas.items()]
    text = json.dumps([{"type": "function", "function": one} for one in functions])
    return Tools(text, **{"choice": "required", **how})


@pytest.fixture(scope="module")
def plain(tiny_model: Path) -> Description:
    return read_description(tiny_model)


def speaks(plain: Description, form: ToolForm, marks: str = "letters") -> Description:
    """Return a model of that form, to which its marks are letters or tokens of either kind."""
    tokenizer = Tokenizer.from_str(plain.tokenizer.to_str())
    added = [AddedToken(mark, special=marks == "special") for mark in special_marks(form)]
    if marks != "letters":
        tokenizer.add_tokens(added)
    return replace(plain, tokenizer=tokenizer, tool_form=form)


def answered(
    description: Description, tools: Tools, seed: int, grammar: Grammar | None = None
) -> tuple[str, list[tuple[str, str]], str]:
    """Return text, calls and how it ended, of a model of random logits; some would like to end."""
    request = GenerateRequest(
        messages=(Message("user", "x"),),
        tools=tools,
        grammar=grammar,
        max_tokens=4000,
        sampling=Sampling(temperature=1.0, seed=seed),
    )
    answer, random = Answer(request, (5,), description, 5000), np.random.default_rng(seed)
    while answer.finish_reason is None:
        logits = random.normal(0, 2, description.tokenizer.get_vocab_size()).astype(np.float32)
        logits[[0, 2]] += 3 * (seed % 2)
        answer.take(logits)
    text = "".join(one.text for one in answer.steps() if isinstance(one, Text))
    reader = ToolReader(frozenset(SCHEMAS))
    parts = [*reader.push(text), *reader.finish(cut=False)]
    calls: list[tuple[str, str]] = []
    for part in parts:
        if isinstance(part, CallBegun):
            calls.append((part.name, ""))
        elif isinstance(part, CallArguments):
            calls[part.index] = (calls[part.index][0], calls[part.index][1] + part.text)
    said = "".join(part.text for part in parts if isinstance(part, Said))
    return said, calls, answer.finish_reason


@pytest.mark.parametrize("form", FORMS, ids=[form.name for form in FORMS])
@pytest.mark.parametrize("marks", ["letters", "tokens", "special"])
def test_what_has_to_be_a_call_is_one_that_fits(
    plain: Description, form: ToolForm, marks: str
) -> None:
    description, numbers = speaks(plain, form, marks), set()
    for seed in range(8):
        said, calls, reason = answered(description, offered(SCHEMAS), seed)
        assert (said, reason) == ("", "stop")
        numbers.add(len(calls))
        for name, arguments in calls:
            jsonschema.validate(json.loads(arguments), SCHEMAS[name])
    assert (max(numbers) > 1) is not form.single
    assert 0 not in numbers


@pytest.mark.parametrize("form", FORMS, ids=[form.name for form in FORMS])
@pytest.mark.parametrize("how", [{"parallel": False}, {"function": "get_weather"}])
def test_one_call_is_the_only_one(plain: Description, form: ToolForm, how: dict[str, Any]) -> None:
    description, names = speaks(plain, form), set()
    for seed in range(8):
        said, [(name, arguments)], reason = answered(description, offered(SCHEMAS, **how), seed)
        assert (said, reason) == ("", "stop")
        jsonschema.validate(json.loads(arguments), SCHEMAS[name])
        names.add(name)
    assert names == ({"get_weather"} if "function" in how else set(SCHEMAS))


def test_json_is_asked_for_and_tools_are_offered_so_it_is_either(plain: Description) -> None:
    schema = {"type": "object", "properties": {"a": {"enum": [1, 2]}}, "required": ["a"],
              "additionalProperties": False}  # fmt: skip
    tools, grammar = offered(SCHEMAS, choice="auto"), Grammar("schema", json.dumps(schema))
    either = [answered(speaks(plain, HERMES), tools, seed, grammar) for seed in range(24)]
    for said, calls, _ in either:
        assert bool(said) != bool(calls)
        assert not said or json.loads(said) in ({"a": 1}, {"a": 2})
    assert {bool(said) for said, _, _ in either} == {True, False}


@pytest.mark.parametrize(
    "schema", [{}, {"type": "object"}, {"type": "object", "properties": {}, "required": []}]
)
def test_function_without_parameters_is_called_with_none(
    plain: Description, schema: dict[str, Any]
) -> None:
    for seed in range(4):
        tools = offered({"f": schema}, parallel=False)
        _, [(name, arguments)], _ = answered(speaks(plain, HERMES), tools, seed)
        assert (name, json.loads(arguments)) == ("f", {})


@pytest.mark.parametrize(
    ("tools", "told"),
    [
        (offered(SCHEMAS, function="other"), "'other' is to be called and is not offered"),
        (offered({"f": {"type": "object", "not": {}}}), "can't be used"),
        (offered({"f": {"properties": {"a": {"multipleOf": 99_999}}}}), "multipleOf is over"),
        (offered({"f": {"enum": ["x" * 70_000]}}), "longer than 65536 bytes together"),
        (offered({"f": {"$ref": "https://example.org/schema"}}), "can't be used"),
        (offered({"f": 5}), "parameters are no schema"),
    ],
)
def test_schema_that_can_not_be_kept_to_is_refused(
    plain: Description, tools: Tools, told: str
) -> None:
    with pytest.raises(InputError, match=told):
        answered(speaks(plain, HERMES), tools, 1)


def test_schema_that_can_not_be_kept_to_is_no_hindrance_where_calls_are_free(
    plain: Description,
) -> None:
    tools = offered({"f": {"type": "object", "not": {}}}, choice="auto")
    request = GenerateRequest(messages=(Message("user", "x"),), tools=tools)
    assert Answer(request, (5,), speaks(plain, HERMES), 512).finish_reason is None


def test_half_a_character_before_a_mark_is_told_before_it(plain: Description) -> None:
    description = speaks(plain, MISTRAL, "special")
    request = GenerateRequest(
        messages=(Message("user", "x"),), tools=offered(SCHEMAS, choice="auto")
    )
    answer = Answer(request, (5,), description, 512)
    half, mark = description.tokenizer.encode("€").ids[0], description.tokenizer.token_to_id
    for token in (half, mark(MISTRAL.begin), 2):
        answer.take(np.eye(description.tokenizer.get_vocab_size(), dtype=np.float32)[token])
    told = [one.text for one in answer.steps() if isinstance(one, Text)]
    assert told == ["\N{REPLACEMENT CHARACTER}[TOOL_CALLS]"]
