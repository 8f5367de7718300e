"""A prompt that is longer than its context is cut as Ollama cuts it, where a request wants that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from dreamer.daemon.inference.answers.answer import Answer
from dreamer.daemon.inference.answers.description import Description, read_description
from dreamer.daemon.inference.answers.fitting import fitted_tokens, fitted_turns, room
from dreamer.daemon.inference.answers.prompt import encode_prompt
from dreamer.daemon.inference.requests import GenerateRequest, Message
from dreamer.daemon.inference.tools import ToolCall
from dreamer.protocol.errors import InputError

CONTEXT = 512
SYSTEM = Message("system", "s")
CALL = Message("assistant", "", (ToolCall("f", "{}", "1"),))
TURNS = (
    SYSTEM,
    Message("user", "a"),
    Message("assistant", "b"),
    Message("user", "c"),
    CALL,
    Message("tool", "d", tool_call_id="1"),
    Message("assistant", "e"),
    Message("user", "f"),
)


class Counting:
    """Makes ten tokens of each turn and remembers what it was given."""

    def __init__(self) -> None:
        self.given: list[Sequence[Message]] = []

    def __call__(self, turns: Sequence[Message]) -> list[int]:
        self.given.append(turns)
        return [number for turn in turns for number in [ord(turn.content or "-")] * 10]


def texts(ids: list[int]) -> str:
    return "".join(map(chr, ids[::10]))


@pytest.mark.parametrize(
    ("most", "left"),
    [(80, "sabc-def"), (79, "sc-def"), (60, "sc-def"), (59, "sf"), (20, "sf")],
)
def test_oldest_turns_go_and_the_system_message_stays(most: int, left: str) -> None:
    assert texts(fitted_turns(TURNS, most, Counting())) == left


def test_last_turn_is_cut_when_nothing_else_is_left() -> None:
    # The system message begins, and stays as far as four tokens.
    assert fitted_turns(TURNS, 10, Counting()) == [ord("s")] * 4 + [ord("f")] * 6


def test_conversation_of_thousands_of_turns_takes_few_tries() -> None:
    turns = [Message("user", "u")] * 4096
    encode = Counting()
    assert len(fitted_turns(turns, 70, encode)) == 70
    assert len(encode.given) <= 16


@pytest.mark.parametrize(
    ("tokens", "most", "left"),
    [
        (5, 5, [0, 1, 2, 3, 4]),
        (9, 6, [0, 1, 2, 3, 7, 8]),
        (9, 2, [0, 8]),
        (9, 1, [8]),
        (3, 0, [0, 1, 2]),
    ],
)
def test_text_keeps_its_first_tokens_and_its_end(tokens: int, most: int, left: list[int]) -> None:
    assert fitted_tokens(list(range(tokens)), most) == left


@pytest.mark.parametrize(
    ("asked", "context", "left"),
    [
        (GenerateRequest(max_tokens=10), 800, 790),
        (GenerateRequest(max_tokens=4096), 800, 700),
        (GenerateRequest(max_tokens=4096, context=80), 800, 70),
        (GenerateRequest(max_tokens=4096, context=10**6), 800, 700),
        (GenerateRequest(max_tokens=1, context=1), 800, 0),
    ],
)
def test_room_is_left_for_an_answer(asked: GenerateRequest, context: int, left: int) -> None:
    assert room(asked, context) == left


@pytest.fixture(scope="module")
def description(tiny_model: Path) -> Description:
    return read_description(tiny_model)


@pytest.mark.parametrize(
    "prompt",
    [
        {"messages": (Message("user", "x" * 900), Message("user", "and"))},
        {"messages": (Message("user", "x" * 900),)},
        {"raw_prompt": "x" * 900},
        {"prompt_ids": (7,) * 900},
    ],
)
@pytest.mark.parametrize("context", [None, 64, 10**6])
def test_cut_prompt_leaves_room_in_the_context(
    description: Description, prompt: dict[str, object], context: int | None
) -> None:
    asked = GenerateRequest(truncate=True, context=context, max_tokens=4096, **prompt)  # type: ignore[arg-type]
    ids = encode_prompt(asked, description, CONTEXT)
    bound = min(context or CONTEXT, CONTEXT)
    assert len(ids) <= bound - bound // 8
    assert Answer(asked, ids, description, CONTEXT).last == bound
    whole = replace(asked, truncate=False)
    ids = encode_prompt(whole, description, CONTEXT)
    assert len(ids) >= 900
    with pytest.raises(InputError, match=f"has room for {bound}; shorten"):
        Answer(whole, ids, description, CONTEXT)


def test_answer_ends_where_its_context_does(description: Description) -> None:
    asked = GenerateRequest(raw_prompt="x", max_tokens=100, context=20)
    assert Answer(asked, [5] * 8, description, CONTEXT).last == 20
    assert Answer(replace(asked, context=None), [5] * 8, description, CONTEXT).last == 108


@pytest.mark.parametrize(
    ("share", "last"), [(0, 4108), (4000, 4108), (9000, 9000), (10**9, 131_084)]
)
def test_answer_of_no_said_length_gets_its_share(
    description: Description, share: int, last: int
) -> None:
    asked = GenerateRequest(raw_prompt="x", max_tokens=131_072, open_ended=True)
    assert Answer(asked, [5] * 12, description, 10**9, share).last == last
    said = replace(asked, open_ended=False)
    assert Answer(said, [5] * 12, description, 10**9, share).last == 131_084
