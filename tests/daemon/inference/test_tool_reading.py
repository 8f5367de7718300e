"""What a model says is told from what it calls, however its text is cut into pieces."""

from __future__ import annotations

import json
from random import Random

import pytest

from dreamer.daemon.inference.thought_reading import AnswerReader
from dreamer.daemon.inference.tool_reading import (
    HELD_MAX_CHARS,
    CallArguments,
    CallBegun,
    CallEnded,
    Part,
    Said,
    ToolReader,
)

NAMES = frozenset(("f", "get_weather"))
Read = tuple[str, list[tuple[str, str, bool]]]
OSLO = '{"city": "Oslo \\"}]</tool_call>\\" x"}'


def gathered(parts: list[Part]) -> Read:
    """Return the text, and of each call its name, its arguments and whether it is whole."""
    said = "".join(part.text for part in parts if isinstance(part, Said))
    calls: list[tuple[str, str, bool]] = []
    for part in parts:
        match part:
            case CallBegun(index, name):
                assert index == len(calls)
                calls.append((name, "", False))
            case CallArguments(index, text):
                name, before, _ = calls[index]
                calls[index] = (name, before + text, False)
            case CallEnded(index):
                calls[index] = (*calls[index][:2], True)
    return said, calls


def read(text: str, sizes: Random | None = None, cut: bool = False) -> Read:
    reader, parts, place = ToolReader(NAMES), [], 0
    while place < len(text):
        size = sizes.randint(1, 6) if sizes else 1
        parts += reader.push(text[place : place + size])
        place += size
    return gathered([*parts, *reader.finish(cut)])


CALLS = [
    (f'<tool_call>\n{{"name": "f", "arguments": {OSLO}}}\n</tool_call>', "", [("f", OSLO)]),
    (
        'I look.\n\n<tool_call>\n{"name": "f", "arguments": {"a": [1, {"b": null}]}}\n</tool_call>'
        '\n<tool_call>\n{"arguments": {}, "name": "get_weather"}\n</tool_call>\n',
        "I look.",
        [("f", '{"a": [1, {"b": null}]}'), ("get_weather", "{}")],
    ),
    (
        '<tool_call>[{"name": "f", "arguments": {"x":1}}, {"name": "f"}]</tool_call>\nDone. ',
        "Done. ",
        [("f", '{"x":1}'), ("f", "{}")],
    ),
    (
        '[TOOL_CALLS] [{"name": "f", "arguments": {"x": 1}, "id": "a1b2c3d4e"}, '
        '{"name": "get_weather", "arguments": {}}]',
        "",
        [("f", '{"x": 1}'), ("get_weather", "{}")],
    ),
    (
        '[TOOL_CALLS]f[ARGS]{"x": 1}[TOOL_CALLS]get_weather[CALL_ID]a1b2c3d4e[ARGS]{"y": "}"}',
        "",
        [("f", '{"x": 1}'), ("get_weather", '{"y": "}"}')],
    ),
    ('<|tool_call|>[{"name": "f", "arguments": {"x": 1}}]<|/tool_call|>', "", [("f", '{"x": 1}')]),
    ('{"name": "f", "parameters": {"x": "1"}}', "", [("f", '{"x": "1"}')]),
    (
        '{"name": "f", "parameters": {}}; {"name": "f", "parameters": {"q":1}}',
        "",
        [("f", "{}"), ("f", '{"q":1}')],
    ),
    ('<|python_tag|>{"type": "function", "name": "f", "parameters": {}}', "", [("f", "{}")]),
    ('{"type": "function", "function": {"name": "f", "arguments": "{\\"x\\": 1}"}}', "",
     [("f", '{"x": 1}')]),
    ('<tool_call>{"name": "f", "arguments": "{\\"x\\": 1}"}</tool_call>', "", [("f", '{"x": 1}')]),
    ('<tool_call>{"name": "f", "arguments": null}</tool_call>', "", [("f", "{}")]),
    ('<tool_call>{"name": "unknown", "arguments": {}}</tool_call>', "", [("unknown", "{}")]),
]  # fmt: skip


@pytest.mark.parametrize(("text", "said", "calls"), CALLS)
def test_calls_are_read_in_every_form(text: str, said: str, calls: list[tuple[str, str]]) -> None:
    expected = said, [(*call, True) for call in calls]
    assert read(text) == expected
    assert all(read(text, Random(seed)) == expected for seed in range(20))
    for _, arguments in calls:
        assert isinstance(json.loads(arguments), dict)


@pytest.mark.parametrize(
    "text",
    [
        "Hello.\n\nNo call here: x < 3, <tool>, <tool_cal l>, [TOOL]. ",
        '{"answer": 42, "name": "f", "arguments": {}}',
        '{"name": "John", "arguments": {}}',
        '{"name": "f"} is a call, said the model',
        "{not even JSON}",
        '{"name": ["f"], "parameters": {}}',
        "<tool_call>none</tool_call> at all",
        '<tool_call>{"name": "f" "arguments": {}}</tool_call>',
        '<tool_call>{"arguments": {}}</tool_call>',
        "<|python_tag|>print(1)",
        "[TOOL_CALLS] I have none",
        '[TOOL_CALLS]f\n{"x": 1}',
        "<tool_call>",
        '<tool_call>{"name": "f"',
        "[[TOOL_CALLS",
        f'<tool_call>{" " * 300}{{"name": "f"}}</tool_call>',
        f'[TOOL_CALLS]{"[" * 300}{{"name": "f"}}',
    ],
)
def test_what_only_looks_like_a_call_is_text(text: str) -> None:
    assert read(text) == (text, []) or text.startswith('{"name": "f"}')
    assert all(read(text, Random(seed)) == read(text) for seed in range(20))


def test_words_before_a_json_answer_make_it_text() -> None:
    text = 'It is {"name": "f", "parameters": {}}'
    assert read(text) == (text, [])


@pytest.mark.parametrize("text", [text for text, _, _ in CALLS if not text.endswith(". ")])
def test_nothing_of_a_call_that_was_cut_off_is_told_as_text(text: str) -> None:
    _, whole = read(text)
    for place in range(1, len(text)):
        said, calls = read(text[:place], cut=True)
        assert "I look.".startswith(said.strip())
        for (name, arguments, _), (full_name, full, _) in zip(calls, whole, strict=False):
            assert name == full_name
            assert full.startswith(arguments)


def test_arguments_are_told_as_they_come_and_text_at_once() -> None:
    reader = ToolReader(NAMES)
    assert reader.push("Hi ") == [Said("Hi")]
    assert reader.push("there") == [Said(" there")]
    assert reader.push('<tool_call>\n{"name": "f", "argum') == []
    assert reader.push('ents": {"te') == [CallBegun(0, "f"), CallArguments(0, '{"te')]
    assert reader.push('xt": "long') == [CallArguments(0, 'xt": "long')]
    assert reader.push('"}}') == [CallArguments(0, '"}'), CallEnded(0)]
    assert reader.push("\n</tool") == []
    assert reader.finish(cut=False) == []


@pytest.mark.parametrize("before", ["", "<tool_call>", "[TOOL_CALLS]", CALLS[0][0], "<think>", "x"])
@pytest.mark.parametrize("endless", [" ", "\n", "[", ",]", "<tool_cal", "<"])
def test_no_more_is_held_than_a_call_may_begin_with(before: str, endless: str) -> None:
    reader = AnswerReader(thinks=True, names=NAMES)
    reader.push(before)
    for _ in range(1000):
        reader.push(endless)
    held = "".join(part.text for part in reader.finish(cut=False) if hasattr(part, "text"))
    assert len(held) <= HELD_MAX_CHARS


def test_json_that_is_no_call_is_told_as_soon_as_that_is_known() -> None:
    reader = ToolReader(NAMES)
    assert reader.push('{"answer"') == [Said('{"answer"')]
    assert reader.push(": 4") == [Said(": 4")]


@pytest.mark.parametrize("after", ["", "Done."])
@pytest.mark.parametrize(
    "rest",
    [
        "}\n</tool_call>",
        "}}, ]</tool_call>\n",
        ' {"x": 1}</tool_call>',
        " so I call it</tool_call>",
    ],
)
def test_what_follows_a_call_up_to_its_end_is_no_text(rest: str, after: str) -> None:
    text = f'<tool_call>\n{{"name": "f", "arguments": {{"a": 1}}}}{rest}{after}'
    expected = after, [("f", '{"a": 1}', True)]
    assert read(text) == expected
    assert all(read(text, Random(seed)) == expected for seed in range(20))
    assert read(text, Random(0), cut=True) == expected


@pytest.mark.parametrize("words", ["It is " + "x" * HELD_MAX_CHARS, "Done.", "see { }"])
def test_words_behind_a_call_without_an_end_are_text(words: str) -> None:
    text = f'<tool_call>{{"name": "f"}}\n{words}'
    assert read(text) == (words, [("f", "{}", True)])
    text += '<tool_call>{"name": "get_weather"}</tool_call>'
    expected = words, [("f", "{}", True), ("get_weather", "{}", True)]
    assert read(text) == expected
    reader = ToolReader(NAMES)
    assert gathered([*reader.push(text), *reader.finish(cut=False)]) == expected


def test_brace_too_many_before_the_next_call_is_no_text() -> None:
    text = '<tool_call>{"name": "f"}}\n<tool_call>{"name": "f"}}'
    assert read(text) == ("", [("f", "{}", True)] * 2)


@pytest.mark.parametrize(
    ("written", "arguments"),
    [
        ('{"a": [1}}', '{"a": [1}'),
        ('{"a": 1]}}', '{"a": 1]}'),
        ('{"a": [1}, "id": "x"}', '{"a": [1}'),
        ('{"a": {"b": [[1}}}', '{"a": {"b": [[1}}'),
        ('{"a": 1} oops}', '{"a": 1}'),
        ('{"a": 1}, "x"}', '{"a": 1}'),
        ('{"a": 1}, "arguments": {"b": 1}}', '{"a": 1}'),
        ('{"a": 1}, "parameters": null}', '{"a": 1}'),
        ('"{}", "arguments": {"b": 1}}', "{}"),
    ],
)
def test_arguments_end_where_their_object_does(written: str, arguments: str) -> None:
    text = f'<tool_call>{{"name": "f", "arguments": {written}</tool_call> Done.'
    expected = "Done.", [("f", arguments, True)]
    assert read(text) == expected
    assert all(read(text, Random(seed)) == expected for seed in range(20))
    reader = ToolReader(NAMES)
    assert gathered([*reader.push(text), *reader.finish(cut=False)]) == expected


@pytest.mark.parametrize(
    "text", ['{"description": "lon', '{"na": 1', '{ "name": "Joh', '{"type": "function", "a'[:20]]
)
def test_json_that_was_cut_is_text(text: str) -> None:
    said, calls = read(text, cut=True)
    assert (said, calls) == (text if "func" not in text else "", [])


@pytest.mark.parametrize(
    "text", ["a <tool_call> b", "a\n\n[TOOL_CALLS]\n", 'a \n<tool_call>{"b": 1}</tool_call>']
)
def test_blanks_before_what_only_looks_like_a_call_are_kept(text: str) -> None:
    assert read(text) == (text, [])
    assert all(read(text, Random(seed)) == (text, []) for seed in range(20))


def test_blanks_without_end_hide_no_call() -> None:
    text = "a" + " " * 1000 + CALLS[0][0]
    reader = ToolReader(NAMES)
    said, calls = gathered([*reader.push(text), *reader.finish(cut=False)])
    assert (said.strip(), calls) == ("a", [("f", OSLO, True)])


def test_name_that_is_no_utf8_is_no_call() -> None:
    text = '<tool_call>{"name": "f\\ud800", "arguments": {}}</tool_call>'
    assert read(text) == (text, [])


@pytest.mark.parametrize(
    "text",
    [
        '{"type": "function", "function": {"name": "f", "arguments": {"a": "\\ud800"}}}',
        '{"name": "f", "arguments": "{\\"a\\": \\"\\ud800\\"}"}',
    ],
)
def test_arguments_that_are_no_utf8_are_escaped(text: str) -> None:
    _, ((_, arguments, whole),) = read(f"<tool_call>{text}</tool_call>")
    assert whole
    assert json.loads(arguments.encode()) == {"a": "\ud800"}


def test_name_of_a_tool_may_begin_with_a_digit() -> None:
    assert read('[TOOL_CALLS]3d[ARGS]{"a": 1}') == ("", [("3d", '{"a": 1}', True)])
