"""One generation over several workers: its seed, and what its waits were for."""

from __future__ import annotations

import time
from dataclasses import dataclass

import pytest

from dreamer.daemon.inference.pool.answering import Times, _seeded
from dreamer.daemon.inference.requests import GenerateRequest
from dreamer.daemon.inference.sampling_options import Sampling


def drawn(temperature: float, seed: int | None = None) -> GenerateRequest:
    return GenerateRequest(prompt="a", sampling=Sampling(temperature, seed=seed))


def test_seed_that_is_left_open_is_fixed_once_for_all_workers() -> None:
    first = _seeded(drawn(temperature=1.0))
    assert first.sampling.seed is not None
    assert _seeded(first) == first
    assert _seeded(drawn(temperature=1.0)).sampling.seed != first.sampling.seed


def test_seed_of_the_asker_and_greedy_choice_stay_as_they_are() -> None:
    for request in (drawn(temperature=1.0, seed=0), drawn(temperature=0.0)):
        assert _seeded(request) is request


@dataclass
class Loaded:
    load_began: float
    ready_at: float


@pytest.mark.parametrize(
    ("load_began", "ready_at", "load_s"), [(-3.0, -1.0, 2.0), (-9.0, -4.0, 1.0), (-9.0, -7.0, 0.0)]
)
def test_wait_for_a_worker_is_loading_as_far_as_it_loaded(
    load_began: float, ready_at: float, load_s: float
) -> None:
    times, now = Times(), time.monotonic()
    times.waited(now - 5.0, Loaded(now + load_began, now + ready_at))  # type: ignore[arg-type]
    assert times.load_s == pytest.approx(load_s)
    assert times.queue_s >= 5.0 - load_s
