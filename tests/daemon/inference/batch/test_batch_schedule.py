"""Prompts are read between decode steps without holding them up, and none waits for ever."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dreamer.daemon.inference.batch.schedule import Plan, Reading, Schedule
from dreamer.protocol.inference_limits import BATCH_CHUNK_TOKENS, INFERENCE_PREFILL_CHUNK_TOKENS


def measured(decode_s: float, seconds_per_token: float, rows: int = 8) -> Schedule:
    """A schedule that has seen steps and chunks of every size."""
    schedule = Schedule()
    for _ in range(50):
        schedule.decoded(rows, decode_s)
        for tokens in BATCH_CHUNK_TOKENS:
            schedule.read(tokens, tokens * seconds_per_token)
    return schedule


def test_alone_a_prompt_is_read_in_large_chunks() -> None:
    plan = Schedule().plan([Reading(1, 1000)], 0)
    assert plan == Plan(1, INFERENCE_PREFILL_CHUNK_TOKENS, decode=False)


@pytest.mark.parametrize(
    ("decode_s", "seconds_per_token", "tokens"),
    [
        (0.017, 0.0016, 8),  # 2 cores, SmolLM2: 25 ms may go to a chunk
        (0.022, 0.0016, 16),
        (0.1, 0.0001, 256),
        (0.001, 0.01, 4),  # even the smallest is dear: it is read all the same
    ],
)
def test_chunk_takes_at_most_its_share_of_a_step(
    decode_s: float, seconds_per_token: float, tokens: int
) -> None:
    plan = measured(decode_s, seconds_per_token).plan([Reading(1, 1000)], 8)
    assert plan == Plan(1, tokens, decode=True)


def test_first_chunk_beside_running_rows_is_the_smallest() -> None:
    schedule = Schedule()
    schedule.decoded(1, 0.01)
    schedule.read(BATCH_CHUNK_TOKENS[0], 0.012)
    assert schedule.plan([Reading(1, 900)], 1).tokens == BATCH_CHUNK_TOKENS[0]


def test_sizes_not_measured_are_not_guessed_too_large() -> None:
    schedule = Schedule()
    schedule.decoded(8, 0.05)
    schedule.read(32, 0.025)
    # 64 tokens should take 47 ms, 128 take 92: more than may be.
    assert schedule.plan([Reading(1, 900)], 8).tokens == 64


def test_chunks_shrink_when_the_machine_becomes_slower() -> None:
    schedule = measured(0.02, 0.0001)
    before = schedule.plan([Reading(1, 1000)], 8).tokens
    for _ in range(60):
        schedule.read(before, before * 0.002)
    assert schedule.plan([Reading(1, 1000)], 8).tokens < before


def test_one_slow_moment_changes_little() -> None:
    schedule = measured(0.02, 0.001)
    before = schedule.plan([Reading(1, 1000)], 8).tokens
    schedule.read(before, 30.0)
    schedule.decoded(8, 30.0)
    assert schedule.plan([Reading(1, 1000)], 8).tokens >= before // 2


def test_chunks_grow_back_when_the_machine_is_free_again() -> None:
    schedule = measured(0.02, 0.005)
    sizes = []
    for _ in range(100):
        tokens = schedule.plan([Reading(1, 1000)], 8).tokens
        schedule.read(tokens, tokens * 0.0002)
        schedule.decoded(8, 0.02)
        sizes.append(tokens)
    assert sizes[-1] > sizes[0]


def test_short_prompt_passes_a_long_one_which_still_gets_half() -> None:
    schedule = Schedule()
    read = [schedule.plan([Reading(1, 5000), Reading(2, 600)], 0).row for _ in range(10)]
    assert read.count(1) == read.count(2) == 5


@given(st.integers(1, 3000), st.integers(0, 8), st.sampled_from([0, 64]), st.floats(1e-4, 0.1))
@settings(deadline=None)
def test_whole_prompt_is_read_and_never_a_single_token_at_the_end(
    length: int, decoding: int, fixed: int, decode_s: float
) -> None:
    schedule, left, chunks = Schedule(fixed), length, []
    while left:
        plan = schedule.plan([Reading(1, left)], decoding)
        assert 0 < plan.tokens <= left
        chunks.append(plan.tokens)
        left -= plan.tokens
        schedule.read(plan.tokens, plan.tokens * 0.001)
        schedule.decoded(max(1, decoding), decode_s)
    if fixed:
        assert chunks[:-1] == [fixed] * (len(chunks) - 1)
    else:
        assert 1 not in chunks or length == 1
