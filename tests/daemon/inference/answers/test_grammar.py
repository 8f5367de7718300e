"""Answers kept to JSON: whatever a model would rather say, what comes out parses and fits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest

from dreamer.daemon.inference.answers.answer import Answer, Finished
from dreamer.daemon.inference.answers.description import Description, read_description
from dreamer.daemon.inference.answers.grammar import Constraint, json_grammar
from dreamer.daemon.inference.requests import GenerateRequest, Text
from dreamer.daemon.inference.sampling_options import Grammar, Sampling
from dreamer.protocol.errors import InputError

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 8},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "maxItems": 2},
        "next": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/point"}]},
    },
    "required": ["name", "age", "tags", "next"],
    "additionalProperties": False,
    "$defs": {
        "point": {
            "type": "object",
            "properties": {"x": {"type": "integer", "minimum": -9, "maximum": 9}},
            "required": ["x"],
            "additionalProperties": False,
        }
    },
}


@pytest.fixture(scope="module")
def description(tiny_model: Path) -> Description:
    return read_description(tiny_model)


def schema(value: object) -> Grammar:
    return Grammar("schema", json.dumps(value))


def answered(
    description: Description, grammar: Grammar, seed: int, max_tokens: int = 400, end: float = 0.0
) -> tuple[str, Finished]:
    """Return what a model of random logits says; ``end`` is how much it wants to end."""
    sampling = Sampling(temperature=1.0, seed=seed)
    request = GenerateRequest(
        raw_prompt="x", grammar=grammar, sampling=sampling, max_tokens=max_tokens
    )
    answer, random = Answer(request, (5,), description, 512), np.random.default_rng(seed)
    while answer.finish_reason is None:
        logits = random.normal(0, 2, description.tokenizer.get_vocab_size()).astype(np.float32)
        logits[[0, 2]] += end
        answer.take(logits)
    *pieces, finished = answer.steps()
    assert isinstance(finished, Finished)
    return "".join(one.text for one in pieces if isinstance(one, Text)), finished


@pytest.mark.parametrize("seed", range(12))
def test_answer_fits_its_schema(description: Description, seed: int) -> None:
    text, finished = answered(description, schema(PERSON), seed)
    assert finished.finish_reason == "stop"
    jsonschema.validate(json.loads(text), PERSON)


@pytest.mark.parametrize("seed", range(6))
def test_json_mode_gives_an_object_though_the_model_wants_to_end(
    description: Description, seed: int
) -> None:
    # Wanting to end this much, it closes brackets nowhere: it ends where the grammar first lets it.
    text, finished = answered(description, Grammar("json"), seed, 500, end=60.0)
    if finished.finish_reason == "stop":
        assert isinstance(json.loads(text), dict)
    assert text.lstrip(" \n\r\t").startswith("{")


def test_end_token_is_forbidden_until_the_grammar_may_end(description: Description) -> None:
    constraint = Constraint(
        json_grammar(schema({"enum": [1, 10]})), description.tokenizer, description.ends
    )
    logits = np.zeros(description.tokenizer.get_vocab_size(), np.float32)
    ends = list(description.ends)
    assert np.isneginf(constraint.allowed(logits)[ends]).all()
    one, nought = (description.tokenizer.token_to_id(digit) for digit in "10")
    constraint.accept(one)
    allowed = constraint.allowed(logits)
    assert not np.isneginf(allowed[[*ends, nought]]).any()
    assert not constraint.ended
    constraint.accept(nought)
    assert constraint.ended


def test_answer_that_is_cut_off_says_so(description: Description) -> None:
    text, finished = answered(description, schema(PERSON), 0, max_tokens=4)
    assert finished == Finished("length", 4)
    assert text.lstrip().startswith("{")


def test_blanks_cannot_go_on_for_ever(description: Description) -> None:
    request = GenerateRequest(raw_prompt="x", grammar=Grammar("json"), max_tokens=400)
    answer = Answer(request, (5,), description, 512)
    blank = description.tokenizer.token_to_id("Ġ")
    logits = np.zeros(description.tokenizer.get_vocab_size(), np.float32)
    logits[blank] = 50.0
    for _ in range(60):
        answer.take(logits)
    text = "".join(step.text for step in answer.steps() if isinstance(step, Text))
    assert text.startswith("{  ")
    assert text.strip(" {"), "nothing but blanks"


def test_padding_of_the_vocabulary_is_never_allowed(description: Description) -> None:
    constraint = Constraint(json_grammar(Grammar("json")), description.tokenizer, description.ends)
    allowed = constraint.allowed(np.zeros(4096, np.float32))
    assert len(allowed) == 4096
    assert np.isneginf(allowed[1024:]).all()


def test_token_that_does_not_fit_is_an_error_of_the_replay(description: Description) -> None:
    constraint = Constraint(json_grammar(Grammar("json")), description.tokenizer, description.ends)
    with pytest.raises(InputError, match="can't be kept to its JSON schema"):
        constraint.accept(description.tokenizer.token_to_id("z"))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "not JSON"),
        ("[]", "not a JSON object"),
        ('{"type": 5}', "type must be"),
        ('{"$ref": "#/nowhere"}', "does not exist"),
        ('{"$ref": "http://127.0.0.1/schema"}', "127.0.0.1"),
        ('{"not": {"type": "string"}}', "not"),
        ('{"type": "string", "pattern": "(?=x)"}', "look-around"),
        ('{"enum": []}', "Unsatisfiable"),
        ('{"type": "integer", "multipleOf": 999983}', "multipleOf"),
        ('{"a":' * 5000 + "1" + "}" * 5000, ""),
        ('{"allOf": [' * 200 + '{"type": "string"}' + "]}" * 200, ""),
    ],
)
def test_schema_that_cannot_be_kept_to_is_refused_with_its_reason(
    description: Description, text: str, reason: str
) -> None:
    with pytest.raises(InputError, match="JSON schema can't be used") as refusal:
        Constraint(json_grammar(Grammar("schema", text)), description.tokenizer, description.ends)
    assert reason in str(refusal.value)
    assert len(str(refusal.value)) < 500


def test_schema_that_no_text_fits_is_the_fault_of_the_request(description: Description) -> None:
    # It compiles; the library gives up at the first token. The worker is as good as before.
    grammar = schema({"$defs": {"a": {"$ref": "#/$defs/a"}}, "$ref": "#/$defs/a"})
    with pytest.raises(InputError, match="JSON schema"):
        answered(description, grammar, 0)


@pytest.mark.parametrize("text", ["", " " * 70_000])
def test_schema_of_impossible_size_is_refused_before_it_is_read(text: str) -> None:
    with pytest.raises(InputError):
        Grammar("schema", text).check()


@pytest.mark.model
@pytest.mark.parametrize("seed", [1, 2])
def test_large_vocabulary_writes_json(smollm: Path, seed: int) -> None:
    description = read_description(smollm)
    simple: dict[str, Any] = {**PERSON, "properties": dict(PERSON["properties"])}  # type: ignore[call-overload]
    text, finished = answered(description, schema(simple), seed, 500)
    assert finished.finish_reason == "stop"
    jsonschema.validate(json.loads(text), PERSON)
