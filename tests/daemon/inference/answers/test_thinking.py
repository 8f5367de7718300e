"""Models that think before they answer: whether they shall, and where their thoughts begin."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dreamer.daemon.inference.answers.answer import Answer
from dreamer.daemon.inference.answers.chat import ChatTemplate
from dreamer.daemon.inference.answers.description import Description, read_description
from dreamer.daemon.inference.answers.prompt import encode_prompt
from dreamer.daemon.inference.requests import GenerateRequest, Message, Text
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
