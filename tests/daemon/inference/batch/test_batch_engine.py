"""One batch answers many: each as if it were alone, none held up or broken by another."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnxruntime.capi.onnxruntime_pybind11_state import Fail

from dreamer.daemon.inference.batch.cache import SharedCache
from dreamer.daemon.inference.requests import GenerateRequest
from dreamer.daemon.inference.sampling_options import Sampling
from dreamer.protocol.inference_limits import PREFIX_BLOCK_TOKENS

FORMS = ("tiny_model", "plain_model")
SYSTEM = tuple(range(40, 40 + 2 * PREFIX_BLOCK_TOKENS + 6))


def ids(seed: int, count: int) -> tuple[int, ...]:
    return tuple(int(one) for one in np.random.default_rng(seed).integers(3, 256, count))


Chosen = list[tuple[int, float]]
"""Tokens with their logprobs: equal only where every logit was the same to the bit, or nearly."""


def ask(prompt: tuple[int, ...], max_tokens: int = 12, **options: Any) -> GenerateRequest:
    return GenerateRequest(prompt_ids=prompt, max_tokens=max_tokens, logprobs=0, **options)


LENGTHS = (5, 1, 2, 33, 64, 65, 150, 300, 97, 3)
PROMPTS = (
    *(ids(seed, count) for seed, count in enumerate(LENGTHS)),
    SYSTEM,
    SYSTEM + ids(50, 9),
    SYSTEM + ids(51, 70),
)


@pytest.fixture(scope="module", params=FORMS)
def model(request: pytest.FixtureRequest) -> Path:
    found: Path = request.getfixturevalue(request.param)
    return found


@pytest.fixture(scope="module")
def alone(model: Path, batching: Callable[..., Any]) -> dict[tuple[int, ...], Chosen]:
    """What each prompt gives by itself: one slot, nothing kept from others."""
    single = batching(model, slots=1, prefix_cache_bytes=0)
    found = {}
    for prompt in PROMPTS:
        number = single.ask(ask(prompt, 40))
        single.finish()
        found[prompt] = single.chosen(number)
    return found


@pytest.fixture(scope="module")
def busy(model: Path, batching: Callable[..., Any]) -> Any:
    """One engine that all examples share, as requests come and go over its life."""
    return batching(model, slots=4)


Arrivals = st.lists(
    st.tuples(
        st.sampled_from(PROMPTS),
        st.integers(1, 40),  # how long the answer is
        st.integers(0, 6),  # how many steps until the next comes
        st.one_of(st.none(), st.integers(0, 30)),  # after how many steps it is cancelled
    ),
    min_size=1,
    max_size=9,
)


@given(Arrivals)
@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_answers_are_those_of_each_request_alone_whoever_joins_and_leaves(
    busy: Any,
    alone: dict[tuple[int, ...], Chosen],
    arrivals: list[tuple[tuple[int, ...], int, int, int | None]],
) -> None:
    asked: dict[int, tuple[tuple[int, ...], int]] = {}
    cancels: dict[int, int] = {}
    for prompt, length, pause, cancel in arrivals:
        number = busy.ask(ask(prompt, length))
        asked[number] = (prompt, length)
        if cancel is not None:
            cancels[number] = cancel
        for _ in range(pause):
            step(busy, cancels)
    while not busy.engine.idle:
        step(busy, cancels)
    for number, (prompt, length) in asked.items():
        expected = alone[prompt][:length]
        ended = busy.kinds(number)[-1:] == ["done"]
        found = busy.chosen(number)
        assert found == (expected if ended else expected[: len(found)])
        assert ended or number in cancels


def step(busy: Any, cancels: dict[int, int]) -> None:
    for number in list(cancels):
        cancels[number] -= 1
        if cancels[number] < 0:
            busy.cancel(number)
    busy.step()


@pytest.fixture
def immovable(monkeypatch: pytest.MonkeyPatch) -> None:
    """A cache as on a GPU: what is in it can't be copied from place to place."""
    made = SharedCache.__init__

    def make(cache: SharedCache, *arguments: Any) -> None:
        made(cache, *arguments)
        cache.movable = False

    monkeypatch.setattr(SharedCache, "__init__", make)
    for name in ("move", "swap", "copy_out"):
        monkeypatch.setattr(SharedCache, name, fails)


@pytest.mark.usefixtures("immovable")
def test_rows_that_cannot_move_answer_the_same(
    tiny_model: Path, batching: Callable[..., Any]
) -> None:
    batch = batching(tiny_model, slots=3)
    asked = [(prompt, 5 + 9 * (at % 4)) for at, prompt in enumerate(PROMPTS)]
    numbers = [batch.ask(ask(prompt, length)) for prompt, length in asked]
    batch.step()
    batch.cancel(numbers[0])
    batch.finish()
    single = batching(tiny_model, slots=1)
    for number, (prompt, length) in list(zip(numbers, asked, strict=True))[1:]:
        alone = single.ask(ask(prompt, length))
        single.finish()
        assert batch.chosen(number) == single.chosen(alone)


def test_rows_step_together(tiny_model: Path, batching: Callable[..., Any]) -> None:
    batch = batching(tiny_model, slots=4)
    numbers = [batch.ask(ask(ids(seed, 20), 30)) for seed in range(4)]
    while not all(batch.ids(number) for number in numbers):
        batch.step()
    before = [len(batch.ids(number)) for number in numbers]
    batch.step()
    assert [len(batch.ids(number)) for number in numbers] == [one + 1 for one in before]


def test_replay_at_any_place_goes_on_with_the_same_tokens(
    model: Path, batching: Callable[..., Any], alone: dict[tuple[int, ...], Chosen]
) -> None:
    batch = batching(model)
    for prompt in PROMPTS[:6]:
        for cut in (1, 7, 29):
            whole = alone[prompt]
            so_far = tuple(token for token, _ in whole[:cut])
            number = batch.ask(ask(prompt, 40, token_ids_so_far=so_far))
            batch.finish()
            assert batch.chosen(number) == whole[cut:]
            assert batch.fields(number, "done")["completion_tokens"] == 40


def test_replay_that_was_over_ends_at_once(
    tiny_model: Path, batching: Callable[..., Any], tmp_path: Path
) -> None:
    batch = batching(tiny_model)
    first = batch.ask(ask(PROMPTS[0], 6))
    batch.finish()
    text = batch.text(first)
    stopped = ask(PROMPTS[0], 20, stop=(text[3:5],))
    number = batch.ask(stopped)
    batch.finish()
    end = batch.fields(number, "done")["completion_tokens"]
    again = batch.ask(
        ask(PROMPTS[0], 20, stop=(text[3:5],), token_ids_so_far=tuple(batch.ids(number)[:end]))
    )
    batch.finish()
    assert batch.kinds(again) == ["begun", "done"]


def test_seeded_draws_are_the_same_in_a_busy_batch(
    tiny_model: Path, batching: Callable[..., Any]
) -> None:
    drawn = ask(PROMPTS[3], 25, sampling=Sampling(temperature=1.0, seed=7))
    expected = batching(tiny_model, slots=1).answer(drawn)
    batch = batching(tiny_model)
    for seed in range(5):
        batch.ask(ask(ids(seed, 30), 10 + seed))
    number = batch.ask(drawn)
    batch.finish()
    assert batch.ids(number) == expected


def test_cancelled_row_frees_its_slot_before_the_next_step(
    model: Path, batching: Callable[..., Any], alone: dict[tuple[int, ...], Chosen]
) -> None:
    batch = batching(model, slots=2)
    first, second, third = (batch.ask(ask(prompt, 40)) for prompt in PROMPTS[2:5])
    for _ in range(6):
        batch.step()
    assert batch.kinds(third) == []
    batch.cancel(first)
    batch.step()
    assert batch.kinds(third)[0] == "begun"
    batch.finish()
    assert batch.kinds(first)[-1] != "done"
    assert batch.chosen(second) == alone[PROMPTS[3]]
    assert batch.chosen(third) == alone[PROMPTS[4]]


def test_waiting_request_can_be_cancelled(tiny_model: Path, batching: Callable[..., Any]) -> None:
    batch = batching(tiny_model, slots=1)
    batch.ask(ask(PROMPTS[0]))
    waiting = batch.ask(ask(PROMPTS[2]))
    batch.cancel(waiting)
    batch.finish()
    assert batch.kinds(waiting) == []


def test_request_that_cannot_be_answered_leaves_the_others_alone(
    model: Path, batching: Callable[..., Any], alone: dict[tuple[int, ...], Chosen]
) -> None:
    batch = batching(model)
    good = batch.ask(ask(PROMPTS[4], 40))
    for _ in range(4):
        batch.step()
    too_long = batch.ask(ask(ids(9, 600)))
    unknown = batch.ask(ask((5, 100_000)))
    batch.finish()
    assert batch.fields(too_long, "error")["code"] == "bad_input"
    assert "shorten the prompt" in batch.fields(too_long, "error")["message"]
    assert batch.fields(unknown, "error")["code"] == "bad_input"
    assert batch.chosen(good) == alone[PROMPTS[4]]


def test_runtime_failure_is_told_to_those_it_hit_and_the_engine_goes_on(
    tiny_model: Path, batching: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    batch = batching(tiny_model)
    expected = batch.answer(ask(PROMPTS[0]))
    running = batch.ask(ask(PROMPTS[2], 40))
    for _ in range(3):
        batch.step()
    cache = batch.runner.batch._cache
    with monkeypatch.context() as broken:
        broken.setattr(type(cache), "read", fails)
        unread = batch.ask(ask(PROMPTS[6]))
        batch.step()
    assert batch.fields(unread, "error")["code"] == "local"
    assert "ONNX Runtime failed" in batch.fields(unread, "error")["message"]
    assert "error" not in batch.kinds(running)
    with monkeypatch.context() as broken:
        broken.setattr(type(cache), "decode", fails)
        batch.step()
    assert batch.kinds(running)[-1] == "error"
    assert batch.answer(ask(PROMPTS[0])) == expected


def fails(*_: object) -> None:
    raise Fail("out of memory")


def test_running_answers_go_on_while_a_long_prompt_is_read(
    tiny_model: Path, batching: Callable[..., Any]
) -> None:
    batch = batching(tiny_model)
    running = batch.ask(ask(PROMPTS[0], 200))
    while len(batch.ids(running)) < 5:
        batch.step()
    reading = batch.ask(ask(PROMPTS[7], 5))
    gained = []
    while not batch.ids(reading):
        before = len(batch.ids(running))
        batch.step()
        gained.append(len(batch.ids(running)) - before)
    # A chunk, a step of all that run, a chunk …: never two chunks after one another.
    assert gained == ([0, 1] * len(gained))[: len(gained)]
    assert len(gained) > 2
