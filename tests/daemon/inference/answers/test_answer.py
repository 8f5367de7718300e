"""One answer from its logits: when it ends, what is told when, and that a replay goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from dreamer.daemon.inference.answers.answer import Answer, Finished
from dreamer.daemon.inference.answers.description import Description, read_description
from dreamer.daemon.inference.requests import GenerateRequest, Text
from dreamer.daemon.inference.sampling_options import Grammar, Sampling
from dreamer.protocol.errors import InputError

PROMPT, CONTEXT = (5, 6, 7), 512
END = 2

Logits = np.ndarray[tuple[int], np.dtype[np.float32]]
Model = Callable[[Answer], Logits]


@pytest.fixture(scope="module")
def description(tiny_model: Path) -> Description:
    return read_description(tiny_model)


def asked(max_tokens: int = 40, **options: object) -> GenerateRequest:
    return replace(GenerateRequest(raw_prompt="x", max_tokens=max_tokens), **options)  # type: ignore[arg-type]


def says(description: Description, text: str) -> Model:
    """A model that writes this text and then the end token."""
    ids = [*description.tokenizer.encode(text).ids, END]

    def logits(answer: Answer) -> Logits:
        row = np.zeros(description.tokenizer.get_vocab_size(), np.float32)
        row[ids[min(answer.completion_tokens, len(ids) - 1)]] = 9.0
        return row

    return logits


def wild(description: Description) -> Model:
    """A model whose logits are random, the same at the same place."""

    def logits(answer: Answer) -> Logits:
        random = np.random.default_rng(1000 + answer.completion_tokens)
        row = random.normal(0, 2, description.tokenizer.get_vocab_size())
        row[[0, 1, END]] -= 30
        return row.astype(np.float32)

    return logits


def run(answer: Answer, model: Model, tokens: int = 10_000) -> list[Text | Finished]:
    steps = answer.steps()
    while answer.finish_reason is None and tokens:
        answer.take(model(answer))
        steps += answer.steps()
        tokens -= 1
    return steps


def text_of(steps: list[Text | Finished]) -> str:
    return "".join(step.text for step in steps if isinstance(step, Text))


def ids_of(steps: list[Text | Finished]) -> tuple[int, ...]:
    return tuple(one for step in steps if isinstance(step, Text) for one in step.token_ids)


def test_end_token_ends_it_and_is_not_counted(description: Description) -> None:
    steps = run(Answer(asked(), PROMPT, description, CONTEXT), says(description, "the word"))
    ids = tuple(description.tokenizer.encode("the word").ids)
    assert text_of(steps) == "the word"
    assert ids_of(steps) == ids
    assert steps[-1] == Finished("stop", len(ids))


def test_max_tokens_end_it(description: Description) -> None:
    answer = Answer(asked(3), PROMPT, description, CONTEXT)
    steps = run(answer, says(description, "abcdef"))
    assert (text_of(steps), steps[-1]) == ("abc", Finished("length", 3))
    assert answer.last == len(PROMPT) + 3


def test_full_context_ends_it(description: Description) -> None:
    steps = run(Answer(asked(), PROMPT, description, 5), says(description, "abcdef"))
    assert (text_of(steps), steps[-1]) == ("ab", Finished("length", 2))


@pytest.mark.parametrize("prompt", [(), tuple(range(5)), (270_000,), (-1,)])
def test_prompt_that_cannot_be_read_is_refused(
    description: Description, prompt: tuple[int, ...]
) -> None:
    with pytest.raises(InputError):
        Answer(asked(), prompt, description, 5)


def test_bias_of_a_token_that_the_model_lacks_is_refused(description: Description) -> None:
    with pytest.raises(InputError, match="token 99999 is not in the vocabulary"):
        Answer(asked(sampling=Sampling(logit_bias=((99_999, 1.0),))), PROMPT, description, 100)


def test_penalties_are_over_prompt_and_answer(description: Description) -> None:
    row = np.zeros(description.tokenizer.get_vocab_size(), np.float32)
    row[[5, 60, 61]] = (9.5, 9.0, 8.5)
    penalties = [Sampling(presence_penalty=1.0), Sampling(repetition_penalty=1.2)]
    ids = [
        ids_of(run(Answer(asked(3, sampling=one), PROMPT, description, 99), lambda _: row))
        for one in penalties
    ]
    # The prompt holds token 5: only the repetition penalty looks at it.
    assert ids == [(5, 60, 5), (60, 61, 5)]


def test_stop_string_ends_it_and_is_not_told(description: Description) -> None:
    answer = Answer(asked(stop=("\n\n", "or")), PROMPT, description, CONTEXT)
    steps = run(answer, says(description, "the word and more"))
    assert text_of(steps) == "the w"
    # The token that brought it was made, so it counts.
    assert steps[-1] == Finished("stop", len(ids_of(steps)))


def test_text_that_might_have_become_a_stop_comes_at_the_end(description: Description) -> None:
    answer = Answer(asked(stop=("xyz",)), PROMPT, description, CONTEXT)
    steps = run(answer, says(description, "abxy"))
    assert text_of(steps) == "abxy"
    assert steps[-2] == Text("xy", ())
    assert ids_of(steps) == tuple(description.tokenizer.encode("abxy").ids)


@pytest.mark.parametrize("text", ["naïve — 日本語 👩‍👩‍👧 ok", " lead", "a\u0301\ufeff"])
def test_characters_come_whole_and_join_to_the_text(description: Description, text: str) -> None:
    steps = run(Answer(asked(200), PROMPT, description, CONTEXT), says(description, text))
    assert text_of(steps) == text
    assert all("\N{REPLACEMENT CHARACTER}" not in step.text for step in steps[:-1])


def test_half_a_character_at_the_end_is_counted_but_not_told(description: Description) -> None:
    steps = run(Answer(asked(3), PROMPT, description, CONTEXT), says(description, "a€"))
    assert (text_of(steps), steps[-1]) == ("a", Finished("length", 3))
    assert len(ids_of(steps)) == 3


SCHEMA = json.dumps(
    {
        "type": "object",
        "properties": {"n": {"type": "integer"}, "s": {"type": "string", "maxLength": 6}},
        "required": ["n", "s"],
        "additionalProperties": False,
    }
)
REQUESTS = [
    asked(60),
    asked(60, sampling=Sampling(temperature=1.1, top_p=0.9, seed=3)),
    asked(60, sampling=Sampling(temperature=1.0, repetition_penalty=1.5, repeat_last_n=9, seed=1)),
    asked(60, sampling=Sampling(presence_penalty=1.0, frequency_penalty=0.5)),
    asked(60, sampling=Sampling(temperature=1.4, seed=5), stop=("e", "the", "\ufffd\ufffd")),
    asked(60, sampling=Sampling(temperature=1.0, seed=9), grammar=Grammar("schema", SCHEMA)),
    asked(60, sampling=Sampling(temperature=1.0, seed=9), logprobs=3),
]


@pytest.mark.parametrize("request_", REQUESTS)
def test_replay_after_any_piece_goes_on_to_the_character(
    description: Description, request_: GenerateRequest
) -> None:
    whole = run(Answer(request_, PROMPT, description, CONTEXT), wild(description))
    for cut in range(1, len(whole)):
        told = whole[:cut]
        if told[-1] == Text(text_of(told[-1:]), ()):
            continue  # held back to the end: told together with how it ended
        again = replace(request_, token_ids_so_far=ids_of(told))
        answer = Answer(again, PROMPT, description, CONTEXT)
        assert answer.prompt_ids == [*PROMPT, *ids_of(told)]
        rest = run(answer, wild(description))
        assert text_of(told) + text_of(rest) == text_of(whole)
        assert ids_of(told) + ids_of(rest) == ids_of(whole)
        assert rest[-1] == whole[-1]
        assert told + rest == whole


def test_replay_of_a_whole_answer_is_over_at_once(description: Description) -> None:
    request = asked(60, stop=("or",))
    steps = run(Answer(request, PROMPT, description, CONTEXT), says(description, "a word b"))
    again = replace(request, token_ids_so_far=ids_of(steps))
    answer = Answer(again, PROMPT, description, CONTEXT)
    assert answer.finish_reason == "stop"
    assert answer.steps() == [steps[-1]]


def test_logprobs_come_with_the_text_of_their_tokens(description: Description) -> None:
    request = asked(logprobs=2, sampling=Sampling(temperature=1, seed=2))
    steps = run(Answer(request, PROMPT, description, CONTEXT), wild(description))
    for step in steps[:-1]:
        assert isinstance(step, Text)
        assert tuple(one.token_id for one in step.logprobs) == step.token_ids
        assert all(len(one.top) == 2 for one in step.logprobs)
        assert all(one.logprob <= one.top[0][2] + 1e-6 for one in step.logprobs)


def test_logprobs_are_of_the_model_before_bias_and_temperature(description: Description) -> None:
    plain = asked(1, logprobs=1)
    changed = asked(1, logprobs=1, sampling=Sampling(temperature=0.01, logit_bias=((99, 100.0),)))
    steps = [
        run(Answer(one, PROMPT, description, CONTEXT), wild(description))[0]
        for one in (plain, changed)
    ]
    tops = [step.logprobs[0].top for step in steps if isinstance(step, Text)]
    assert tops[0] == tops[1]
    assert ids_of(steps[1:]) == (99,)
