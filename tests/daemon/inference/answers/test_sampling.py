"""Tokens are drawn as the options define it: checked against the definitions, spelt out slowly."""

from __future__ import annotations

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamer.daemon.inference.answers.sampling import Sampler, kept, likeliest, pick, uniform
from dreamer.daemon.inference.sampling_options import Sampling
from dreamer.protocol.errors import InputError, LocalError

Logits = np.ndarray[tuple[int], np.dtype[np.float32]]


def array(*values: float) -> Logits:
    return np.array(values, np.float32)


def random_logits(size: int, spread: float = 2.0, seed: int = 0) -> Logits:
    return np.random.default_rng(seed).normal(0, spread, size).astype(np.float32)


def softmax(logits: Logits) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    powers = np.exp(logits.astype(np.float64) - float(logits.max()))
    return np.array(powers / powers.sum())


def slow_kept(logits: Logits, sampling: Sampling) -> list[int]:
    """Do what the options say in the plainest words."""
    ids = sorted(range(len(logits)), key=lambda one: (-logits[one], one))
    if sampling.top_k:
        ids = ids[: sampling.top_k]
    if sampling.top_p < 1:
        parts = softmax(logits[ids])
        sums = np.cumsum(parts)
        ids = ids[: int(np.argmax(sums >= min(sampling.top_p, sums[-1]))) + 1]
    if sampling.min_p:
        parts = softmax(logits[ids])
        ids = [
            one for one, part in zip(ids, parts, strict=True) if part >= sampling.min_p * parts[0]
        ]
    return sorted(ids)


def kept_ids(logits: Logits, sampling: Sampling) -> list[int]:
    ids = kept(logits, sampling)
    return list(range(len(logits))) if ids is None else ids.tolist()


SOME_LOGITS = st.lists(st.integers(-60, 60), min_size=1, max_size=40).map(
    lambda values: np.array(values, np.float32) / np.float32(7)
)


@given(SOME_LOGITS, st.integers(0, 45), st.sampled_from((0.0, 0.31, 0.77, 0.93, 1.0)))
def test_top_k_and_top_p_keep_what_their_definitions_keep(
    logits: Logits, top_k: int, top_p: float
) -> None:
    sampling = Sampling(temperature=1, top_k=top_k, top_p=top_p)
    assert kept_ids(logits, sampling) == slow_kept(logits, sampling)


@pytest.mark.parametrize("spread", [0.01, 1.0, 4.0])
@pytest.mark.parametrize("top_p", [0.1, 0.5, 0.9, 0.999])
@pytest.mark.parametrize("min_p", [0.0, 0.03])
def test_large_vocabularies_keep_what_the_definitions_keep(
    spread: float, top_p: float, min_p: float
) -> None:
    logits = random_logits(5000, spread)
    sampling = Sampling(temperature=1, top_p=top_p, min_p=min_p)
    fast, slow = kept_ids(logits, sampling), slow_kept(logits, sampling)
    # At the border, sums in another order may differ by the last bit.
    assert len(set(fast) ^ set(slow)) <= 1


def test_of_equal_tokens_the_lower_ids_are_kept() -> None:
    logits = array(1, 5, 5, 5, 5, 0)
    assert kept_ids(logits, Sampling(temperature=1, top_k=2)) == [1, 2]
    assert kept_ids(logits, Sampling(temperature=1, top_p=0.5)) == [1, 2, 3]


def test_likeliest_are_told_best_first() -> None:
    assert likeliest(array(3, 9, 1, 9, 4), 3).tolist() == [1, 3, 4]
    assert likeliest(array(3, 9), 20).tolist() == [1, 0]


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=0),
        Sampling(temperature=1.3, top_k=1),
        Sampling(temperature=1.3, top_p=0.0),
        Sampling(temperature=1.3, min_p=1.0),
        Sampling(temperature=1e-40),
    ],
)
def test_only_the_likeliest_token_is_left(sampling: Sampling) -> None:
    logits = random_logits(3000)
    drawn = {Sampler(sampling).choose(logits, place) for place in range(50)}
    assert drawn == {int(logits.argmax())}


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=1.0),
        Sampling(temperature=0.6),
        Sampling(temperature=1.7),
        Sampling(temperature=1.0, top_k=7),
        Sampling(temperature=0.8, top_p=0.8),
        Sampling(temperature=1.2, min_p=0.1),
        Sampling(temperature=1.2, top_k=12, top_p=0.9, min_p=0.05),
    ],
)
def test_draws_have_the_distribution_that_is_defined(sampling: Sampling) -> None:
    logits, draws = random_logits(30, 1.5), 6000
    ids = slow_kept(logits, sampling)
    expected = softmax(logits[ids] / np.float32(sampling.temperature)) * draws
    sampler = Sampler(Sampling(**{**vars(sampling), "seed": 11}))
    seen = Counter(sampler.choose(logits, place) for place in range(draws))
    assert set(seen) <= set(ids)
    assert _chi_square(seen, dict(zip(ids, expected, strict=True))) < 5


def _chi_square(seen: Counter[int], expected: dict[int, float]) -> float:
    """Return how many standard deviations chi-square is above its mean; rare ones in one bin."""
    rare = [one for one, count in expected.items() if count < 8]
    bins = [(seen[one], count) for one, count in expected.items() if count >= 8]
    if rare:
        bins.append((sum(seen[one] for one in rare), sum(expected[one] for one in rare)))
    value = sum((got - wanted) ** 2 / max(wanted, 1e-9) for got, wanted in bins)
    freedom = max(len(bins) - 1, 1)
    return (value - freedom) / math.sqrt(2 * freedom)


def test_draws_from_a_large_vocabulary_are_spread_over_all_of_it() -> None:
    logits = np.zeros(49_152, np.float32)
    sampler = Sampler(Sampling(temperature=1, seed=4))
    drawn = np.array([sampler.choose(logits, place) for place in range(4000)])
    seen = Counter((drawn // 6144).tolist())
    assert _chi_square(seen, dict.fromkeys(range(8), 500.0)) < 5


@given(
    st.lists(st.sampled_from((0.0, 1e-30, 0.25, 1.0, 3e4)), min_size=1, max_size=1500).filter(any),
    st.floats(0, 1, exclude_max=True),
)
def test_weight_of_nothing_is_never_picked(weights: list[float], at: float) -> None:
    values = np.array(weights, np.float32)
    index = pick(values, at)
    assert values[index] > 0
    # The place is right but for rounding.
    whole = values.sum(dtype=np.float64)
    before = values[:index].sum(dtype=np.float64) / whole
    assert before <= at + 1e-9
    assert at <= before + values[index] / whole + 1e-9


def test_rounding_past_the_end_picks_the_last_that_has_weight() -> None:
    assert pick(array(1, 2, 0), 1.0) == 1
    assert pick(np.array([1.0] * 700 + [0.0] * 300, np.float32), 1.0) == 699


def test_same_seed_draws_the_same_at_the_same_place_whatever_came_before() -> None:
    logits, sampling = random_logits(2000), Sampling(temperature=1.5, seed=-7)
    whole = [Sampler(sampling).choose(logits, place) for place in range(20)]
    late = Sampler(sampling)
    assert [late.choose(logits, place) for place in range(12, 20)] == whole[12:]
    other = Sampler(Sampling(temperature=1.5, seed=8))
    assert [other.choose(logits, place) for place in range(20)] != whole


def test_random_numbers_stay_what_they_are() -> None:
    """Peers of different versions continue each other's answers."""
    assert [round(uniform(seed, place), 6) for seed, place in PLACES] == NUMBERS
    assert len({uniform(5, place) for place in range(1000)}) == 1000


PLACES = [(0, 0), (0, 1), (1, 0), (2**63, 5), (-1, 5)]
NUMBERS = [0.011547, 0.50238, 0.303568, 0.741422, 0.462925]


def test_no_seed_is_a_new_one_each_time() -> None:
    logits, sampling = np.zeros(40_000, np.float32), Sampling(temperature=1)
    assert len({Sampler(sampling).choose(logits, 0) for _ in range(20)}) > 10


def seen(sampling: Sampling, prompt: list[int], answer: list[int]) -> Sampler:
    sampler = Sampler(sampling)
    for token in prompt:
        sampler.see(token, answer=False)
    for token in answer:
        sampler.see(token, answer=True)
    return sampler


def test_repetition_penalty_divides_above_zero_and_multiplies_below() -> None:
    sampling = Sampling(repetition_penalty=2.0)
    assert seen(sampling, [0], []).choose(array(3.0, 2.0), 0) == 1
    assert seen(sampling, [0], []).choose(array(5.0, 2.0), 0) == 0
    assert seen(sampling, [0], []).choose(array(-1.0, -1.5), 0) == 1
    assert seen(sampling, [], [0]).choose(array(3.0, 2.0), 0) == 1


@pytest.mark.parametrize(("last", "expected"), [(-1, 1), (3, 1), (2, 0), (0, 0)])
def test_repetition_is_looked_for_in_the_last_tokens_only(last: int, expected: int) -> None:
    sampling = Sampling(repetition_penalty=10.0, repeat_last_n=last)
    assert seen(sampling, [0, 2], [2]).choose(array(3.0, 2.0, 1.0), 0) == expected


def test_token_stays_penalised_while_one_of_it_is_in_the_window() -> None:
    sampling = Sampling(repetition_penalty=10.0, repeat_last_n=2)
    assert seen(sampling, [0, 0], [1]).choose(array(3.0, 2.9, 1.0), 0) == 2
    assert seen(sampling, [0, 0], [1, 1]).choose(array(3.0, 2.9, 1.0), 0) == 0


def test_presence_and_frequency_penalties_are_over_the_answer() -> None:
    logits = array(2.0, 1.0)
    presence, frequency = Sampling(presence_penalty=1.5), Sampling(frequency_penalty=0.6)
    assert seen(presence, [0, 0, 0], []).choose(logits, 0) == 0
    assert seen(presence, [], [0]).choose(logits, 0) == 1
    assert seen(frequency, [0, 0, 0], [0]).choose(logits, 0) == 0
    assert seen(frequency, [], [0, 0]).choose(logits, 0) == 1


def test_bias_is_added_first_and_may_forbid() -> None:
    logits = array(4.0, 3.0, 0.0)
    assert Sampler(Sampling(logit_bias=((0, -100.0),))).choose(logits, 0) == 1
    assert Sampler(Sampling(logit_bias=((2, 100.0), (999, 5.0)))).choose(logits, 0) == 2
    assert logits.tolist() == [4.0, 3.0, 0.0], "the engine's row was written into"


def test_bias_brings_back_nothing_that_a_grammar_forbids() -> None:
    logits = array(1.0, -np.inf)
    sampling = Sampling(temperature=2.0, logit_bias=((1, 100.0),), repetition_penalty=1.5)
    sampler = seen(sampling, [1], [1])
    assert {sampler.choose(logits, place) for place in range(50)} == {0}


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_numbers_that_are_none_end_in_a_clear_error(value: float, temperature: float) -> None:
    logits = np.full(100, -np.inf if value == -np.inf else 1.0, np.float32)
    logits[40] = value
    with pytest.raises(LocalError, match="no usable probabilities"):
        Sampler(Sampling(temperature=temperature)).choose(logits, 0)


@pytest.mark.parametrize(
    "sampling",
    [
        Sampling(temperature=-0.1),
        Sampling(temperature=math.nan),
        Sampling(top_p=1.1),
        Sampling(min_p=-0.1),
        Sampling(top_k=-1),
        Sampling(repetition_penalty=0.0),
        Sampling(presence_penalty=2.5),
        Sampling(seed=2**64),
        Sampling(seed=-(2**63) - 1),
        Sampling(logit_bias=((-1, 1.0),)),
        Sampling(logit_bias=((1, math.nan),)),
        Sampling(logit_bias=((1, 101.0),)),
        Sampling(logit_bias=tuple((one, 1.0) for one in range(1025))),
    ],
)
def test_options_that_mean_nothing_are_refused(sampling: Sampling) -> None:
    with pytest.raises(InputError):
        sampling.check()
