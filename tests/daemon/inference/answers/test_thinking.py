"""Models that think before they answer: whether they shall, and where their thoughts begin."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from dreamer.daemon.inference.answers.answer import Answer
from dreamer.daemon.inference.answers.chat import ChatTemplate
from dreamer.daemon.inference.answers.description import Description, read_description
from dreamer.daemon.inference.answers.prompt import encode_prompt
from dreamer.daemon.inference.requests import GenerateRequest, Message, Text
from dreamer.daemon.inference.sampling_options import Grammar
from dreamer.daemon.inference.thought_reading import AnswerReader, Thought
from dreamer.daemon.inference.tool_forms import HERMES
from dreamer.daemon.inference.tools import Tools
from dreamer.protocol.errors import InputError

SOURCE = """{{- messages[0].content }}
{%- if enable_thinking is defined %}{{ '[on]' if enable_thinking else '[off]' }}{% endif %}
{%- if enable_thinking is not defined or enable_thinking %}{{ '<think>\\n' }}{% endif %}"""
TURNS = (Message("user", "hi"),)


@pytest.fixture(scope="module")
def thinker(tiny_model: Path) -> Description:
    description = read_description(tiny_model)
    return replace(description, template=ChatTemplate(SOURCE, {}), template_source=SOURCE)


def said(description: Description, asked: GenerateRequest, text: str, stop: int = 99) -> list[Text]:
    """Return the pieces of an answer that says ``text``, as far as ``stop`` tokens."""
    answer = Answer(asked, encode_prompt(asked, description), description, 512)
    told: list[Text] = []
    ids = [*description.tokenizer.encode(text).ids, 2]
    for token in ids[answer.completion_tokens : stop]:
        answer.take(np.eye(description.tokenizer.get_vocab_size(), dtype=np.float32)[token])
        told += [one for one in answer.steps() if isinstance(one, Text)]
    return told


@pytest.mark.parametrize(
    ("thinking", "prompt"),
    [(None, "hi<think>\n"), (True, "hi[on]<think>\n"), (False, "hi[off]")],
)
def test_template_is_told_whether_to_think(
    thinker: Description, thinking: bool | None, prompt: str
) -> None:
    asked = GenerateRequest(messages=TURNS, thinking=thinking)
    assert thinker.tokenizer.decode(encode_prompt(asked, thinker)) == prompt


@pytest.mark.parametrize(
    ("thinking", "text"), [(None, "So.</think>Hi"), (True, "<think>So.</think>Hi"), (False, "Hi")]
)
def test_thoughts_that_the_prompt_began_begin_the_answer(
    thinker: Description, thinking: bool | None, text: str
) -> None:
    asked = GenerateRequest(messages=TURNS, thinking=thinking)
    told = said(thinker, asked, text.removeprefix("<think>"))
    assert "".join(one.text for one in told) == text


@pytest.mark.parametrize("stops", [(), ("zzz",)])
def test_replay_does_not_begin_them_again(thinker: Description, stops: tuple[str, ...]) -> None:
    asked = GenerateRequest(messages=TURNS, thinking=True, stop=stops)
    whole = said(thinker, asked, "So it is.</think>Hi")
    for cut in range(1, len(whole)):
        tokens = tuple(token for one in whole[:cut] for token in one.token_ids)
        rest = said(thinker, replace(asked, token_ids_so_far=tokens), "So it is.</think>Hi")
        assert [*whole[:cut], *rest] == whole


def test_model_that_never_thinks_says_so(tiny_model: Path) -> None:
    description = read_description(tiny_model)
    with pytest.raises(InputError, match="does not support thinking"):
        encode_prompt(GenerateRequest(messages=TURNS, thinking=True), description)
    assert encode_prompt(GenerateRequest(messages=TURNS, thinking=False), description)


OPENS = "{{ messages[0].content }}{% if tools %}tools <tool_call>{% endif %}<think>\n"
ADD = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}


@pytest.mark.parametrize("thinking", [True, False])
@pytest.mark.parametrize(
    ("options", "text", "told"),
    [
        (
            {"tools": Tools(json.dumps([ADD]), choice="required")},
            '<tool_call>\n{"name": "add", "arguments": {}}\n</tool_call>',
            "{}",
        ),
        ({"grammar": Grammar("schema", '{"type": "object"}')}, '{"x": 1}', '{"x": 1}'),
    ],
)
def test_answer_that_is_kept_to_a_grammar_is_no_thought(
    tiny_model: Path, thinking: bool, options: dict[str, Any], text: str, told: str
) -> None:
    plain, template = read_description(tiny_model), ChatTemplate(OPENS, {})
    sources = {"template_source": OPENS, "tool_source": OPENS, "tool_form": HERMES}
    description = replace(plain, template=template, **sources)
    asked = GenerateRequest(messages=TURNS, thinking=thinking, **options)
    whole = "".join(one.text for one in said(description, asked, text))
    assert whole == text
    read = AnswerReader(True, frozenset({"add"}) if asked.tools else None).whole(whole, False)
    assert not any(isinstance(part, Thought) for part in read)
    assert "".join(getattr(part, "text", "") for part in read) == told
