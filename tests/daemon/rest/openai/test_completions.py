"""Completions: prompts as they are, one or many."""

import pytest

from dreamer.daemon.inference.sampling_options import Sampling

TEXT = "Hello wörld\x1b[31m"
COMPLETE = "/completions"


def test_answer_has_the_form_that_clients_read(openai):
    value = openai.complete(prompt="Once")
    assert value["id"].startswith("cmpl-")
    assert value["object"] == "text_completion"
    assert value["choices"] == [
        {"index": 0, "text": TEXT, "logprobs": None, "finish_reason": "stop"}
    ]
    assert value["usage"]["total_tokens"] == 8
    asked = openai.asked
    assert (asked.raw_prompt, asked.prompt, asked.messages) == ("Once", None, ())
    assert (asked.max_tokens, asked.sampling) == (16, Sampling(temperature=1.0))


def test_stream_has_pieces_reason_usage_and_done(openai):
    events = openai.stream(COMPLETE, stream_options={"include_usage": True})
    *chunks, usage, done = events
    assert [one["choices"][0]["text"] for one in chunks] == ["Hello ", "wörld\x1b[31m", ""]
    assert chunks[-1]["choices"][0]["finish_reason"] == "stop"
    assert {one["object"] for one in chunks} == {"text_completion"}
    assert (usage["choices"], usage["usage"]["completion_tokens"], done) == ([], 3, "[DONE]")


@pytest.mark.parametrize(
    ("prompt", "texts", "ids"),
    [
        ("a", ["a"], [()]),
        (["a", "b"], ["a", "b"], [(), ()]),
        ([5, 6], [None], [(5, 6)]),
        ([[5, 6], [7]], [None, None], [(5, 6), (7,)]),
    ],
)
def test_prompts_are_texts_or_tokens(openai, prompt, texts, ids):
    value = openai.complete(prompt=prompt)
    assert [one["index"] for one in value["choices"]] == list(range(len(texts)))
    requests = [request for _, _, request, _ in openai.inference.asked]
    assert [one.raw_prompt for one in requests] == texts
    assert [one.prompt_ids for one in requests] == ids
    assert value["usage"]["prompt_tokens"] == 5 * len(texts)


def test_choices_of_a_prompt_lie_side_by_side(openai):
    value = openai.complete(prompt=["a", "b"], n=2, seed=1)
    assert [one["index"] for one in value["choices"]] == [0, 1, 2, 3]
    prompts = [request.raw_prompt for _, _, request, _ in openai.inference.asked]
    assert prompts == ["a", "a", "b", "b"]
    # Each prompt was read once, whatever number of choices it got.
    assert value["usage"]["prompt_tokens"] == 10
    assert value["usage"]["completion_tokens"] == 12


def test_echo_puts_the_prompt_before_the_text(openai):
    value = openai.complete(prompt=["a ", "b "], echo=True)
    assert [one["text"] for one in value["choices"]] == ["a " + TEXT, "b " + TEXT]
    chunks = openai.stream(COMPLETE, prompt="Once ", echo=True)[:-1]
    assert "".join(one["choices"][0]["text"] for one in chunks) == "Once " + TEXT


def test_logprobs_have_the_older_form(openai):
    told = openai.complete(logprobs=1)["choices"][0]["logprobs"]
    assert told["tokens"] == ["Hello ", "wörld\x1b[31m", ""]
    assert told["token_logprobs"] == [-0.5] * 3
    assert told["top_logprobs"] == [{"t0": -0.5}] * 3
    assert told["text_offset"] == [0, 6, 16]
    chunks = openai.stream(COMPLETE, logprobs=0)[:-1]
    offsets = [one["choices"][0]["logprobs"]["text_offset"] for one in chunks[:-1]]
    assert offsets == [[0], [6, 16]]


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"prompt": []}, "prompt"),
        ({"prompt": None}, "prompt"),
        ({"prompt": ["a", 5]}, "prompt"),
        ({"prompt": [[]]}, "prompt"),
        ({"prompt": [-1]}, "prompt"),
        ({"prompt": [2**31]}, "prompt"),
        ({"prompt": [1.5]}, "prompt[0]"),
        ({"prompt": ["a"] * 65, "n": 2}, "prompt"),
        ({"suffix": "end"}, "suffix"),
        ({"best_of": 3}, "best_of"),
        ({"echo": True, "prompt": [5]}, "echo"),
        ({"echo": True, "logprobs": 1}, "echo"),
        ({"logprobs": 21}, "logprobs"),
    ],
)
def test_what_is_not_done_is_refused_by_name(openai, fields, param):
    assert openai.refused(COMPLETE, **fields)["param"] == param


def test_best_of_as_many_as_are_asked_for_is_all_of_them(openai):
    assert len(openai.complete(n=2, best_of=2)["choices"]) == 2
