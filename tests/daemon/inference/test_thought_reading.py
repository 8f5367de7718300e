"""Thoughts are told from what is said, however the text is cut into pieces."""

from __future__ import annotations

from random import Random

import pytest

from dreamer.daemon.inference.thought_reading import (
    AnswerReader,
    Thought,
    ThoughtReader,
    knows_thinking,
)
from dreamer.daemon.inference.tool_reading import Said

CALL = '<tool_call>{"name": "f", "arguments": {}}</tool_call>'


def read(text: str, sizes: Random) -> tuple[str, str]:
    """Return what was thought, and what was said."""
    reader, told, place = ThoughtReader(), [], 0
    while place < len(text):
        size = sizes.randint(1, 5)
        told += reader.push(text[place : place + size])
        place += size
    told += reader.finish()
    thoughts = "".join(one.text for one in told if isinstance(one, Thought))
    return thoughts, "".join(one.text for one in told if isinstance(one, Said))


@pytest.mark.parametrize(
    ("text", "thought", "said"),
    [
        ("<think>\nI think.\n\nSo </thin> x\n</think>\n\nHello <think>",
         "I think.\n\nSo </thin> x", "Hello <think>"),
        ("  \n<think>\n\n</think>\n\nHi", "", "Hi"),
        ("Hi\n\n there </think>\n", "", "Hi\n\n there </think>\n"),
        (" <thin x", "", " <thin x"),
        ("<think>cut off", "cut off", ""),
        (" " * 300 + "<think>no</think>", "", " " * 300 + "<think>no</think>"),
        ("<think>", "", ""),
        ("<thi", "", "<thi"),
        ("", "", ""),
    ],
)  # fmt: skip
def test_thoughts_and_words(text: str, thought: str, said: str) -> None:
    assert all(read(text, Random(seed)) == (thought, said) for seed in range(40))


def test_both_are_told_at_once() -> None:
    reader = ThoughtReader()
    assert reader.push("<think>") == []
    assert reader.push("\nHm") == [Thought("Hm")]
    assert reader.push(" so") == [Thought(" so")]
    assert reader.push(" </th") == []
    assert reader.push("ink>\n") == []
    assert reader.push("\nYes") == [Said("Yes")]
    assert reader.push(" ") == [Said(" ")]


def test_without_a_wish_everything_is_said() -> None:
    reader = AnswerReader(thinks=False, names=None)
    assert reader.push("<think>a") == [Said("<think>a")]
    assert reader.finish(cut=False) == []
    assert reader.calls == 0


@pytest.mark.parametrize(
    ("thought", "said"),
    [
        (f"<think>I may {CALL}</think>", "\nok"),
        (f"<think>{CALL}", ""),
        ("<think>\n\n</think>", ""),
        ("<think>I may</thin", ""),
        ("<thin", ""),
    ],
)
def test_calls_in_thoughts_that_are_not_told_apart_are_text(thought: str, said: str) -> None:
    for seed in range(20):
        sizes, text, place = Random(seed), thought + said, 0
        reader = AnswerReader(thinks=False, names=frozenset("f"))
        told = []
        while place < len(text):
            size = sizes.randint(1, 5)
            told += reader.push(text[place : place + size])
            place += size
        told += reader.finish(cut=False)
        assert "".join(one.text for one in told if isinstance(one, Said)) == text
        assert reader.calls == 0
    reader = AnswerReader(thinks=False, names=frozenset("f"))
    for char in f"<think>I may {CALL}</think>\n{CALL}":
        reader.push(char)
    assert reader.calls == 1


@pytest.mark.parametrize(
    ("template", "knows"),
    [
        ("{% if enable_thinking %}", True),
        ("{{ '<think>' }}", True),
        ("thinking", False),
        ("", False),
    ],
)
def test_template_tells_whether_its_model_thinks(template: str, knows: bool) -> None:
    assert knows_thinking(template) is knows
