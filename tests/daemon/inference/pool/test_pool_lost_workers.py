"""Workers that die, hang or run out of memory: what their requests see, and what comes after."""

from __future__ import annotations

import asyncio
import os
import signal
from contextlib import aclosing
from dataclasses import replace
from pathlib import Path

import pytest
from pool_calls import (
    DEADLINE_S,
    MakePool,
    answer,
    gone,
    load,
    names,
    reached,
    stopped,
    text_of,
    token_ids_of,
)

from dreamer.daemon.inference.pool.pool import Pool
from dreamer.daemon.inference.requests import Event, GenerateRequest, Started, Text
from dreamer.daemon.inference.sampling_options import Sampling
from dreamer.protocol.errors import LocalError

LONG = GenerateRequest(prompt="and then", max_tokens=120)


async def answer_with_a_loss(
    pool: Pool, model: Path, request: GenerateRequest, after_pieces: int
) -> tuple[list[Event], list[int]]:
    """Generate, killing the worker after so many pieces of text were told; return whom, too."""
    told: list[Event] = []
    killed: list[int] = []
    async with asyncio.timeout(DEADLINE_S), aclosing(pool.generate(model, "aa", request)) as events:
        async for event in events:
            told.append(event)
            if not killed and sum(isinstance(one, Text) for one in told) == after_pieces:
                killed.append(pool.loaded()[0].pid)
                os.kill(killed[0], signal.SIGKILL)
    # Whoever asks next must not be the one who finds it dead.
    await reached(lambda: not any(one.pid in killed for one in pool.loaded()))
    return told, killed


@pytest.mark.parametrize("after_pieces", [0, 1, 7])
@pytest.mark.parametrize(
    "sampling", [Sampling(), Sampling(temperature=1.0, seed=7), Sampling(temperature=1.0)]
)
async def test_answer_goes_on_where_the_killed_worker_stopped(
    make_pool: MakePool, tiny_model: Path, sampling: Sampling, after_pieces: int
) -> None:
    pool = make_pool()
    request = replace(LONG, sampling=sampling)
    whole = await answer(pool, tiny_model, request=request)
    killed: list[int] = []
    # Not every try loses something: without a seed an answer may draw its end before so many
    # pieces, and a worker that runs ahead of its reader has sent the whole before it is killed.
    while pool.totals()["aa"].retries == 0:
        told, others = await answer_with_a_loss(pool, tiny_model, request, after_pieces)
        killed += others
    if sampling.temperature == 0 or sampling.seed is not None:
        assert text_of(told) == text_of(whole)
        assert token_ids_of(told) == token_ids_of(whole)
    assert len(token_ids_of(told)) == told[-1].completion_tokens
    assert sum(isinstance(event, Started) for event in told) == 1
    (model,) = pool.statistics()
    assert (model.failures, model.loads) == (0, 1 + len(killed))
    assert pool.totals()["aa"].retries == 1


async def test_worker_killed_before_the_first_token_is_replaced_unseen(
    make_pool: MakePool, tiny_model: Path
) -> None:
    pool = make_pool()
    expected = text_of(await answer(pool, tiny_model))
    (model,) = pool.loaded()
    await stopped(model.pid)
    several = [asyncio.create_task(answer(pool, tiny_model)) for _ in range(4)]
    await reached(lambda: pool.pending == 4)
    os.kill(model.pid, signal.SIGKILL)
    assert {text_of(events) for events in await asyncio.gather(*several)} == {expected}


async def test_worker_that_dies_again_over_a_request_is_one_clear_error(
    make_pool: MakePool, tiny_model: Path
) -> None:
    pool = make_pool()
    await answer(pool, tiny_model)
    killed: list[int] = []

    def kill_whatever_runs() -> None:
        for model in pool.loaded():
            if model.running and model.pid not in killed:
                killed.append(model.pid)
                os.kill(model.pid, signal.SIGKILL)

    pool.changed.append(kill_whatever_runs)
    with pytest.raises(LocalError, match="worker died"):
        await answer(pool, tiny_model, request=LONG)
    assert len(killed) == 2
    pool.changed.clear()
    assert text_of(await answer(pool, tiny_model))
    (model,) = pool.statistics()
    assert (model.requests, model.failures) == (3, 1)


async def test_worker_that_hangs_is_replaced_and_its_request_answered(
    make_pool: MakePool, tiny_model: Path
) -> None:
    pool = make_pool(silence_timeout_s=0.4)
    expected = text_of(await answer(pool, tiny_model))
    (model,) = pool.loaded()
    await stopped(model.pid)
    assert text_of(await answer(pool, tiny_model)) == expected
    await gone(model.pid)


async def test_too_little_memory_is_an_error_and_not_a_dead_machine(
    make_pool: MakePool, tiny_model: Path
) -> None:
    pool = make_pool(memory_bytes=30_000_000)
    with pytest.raises(LocalError, match="memory"):
        await answer(pool, tiny_model)
    assert names(pool) == []


async def test_model_that_is_to_stay_comes_back_when_its_idle_worker_dies(
    make_pool: MakePool, tiny_model: Path
) -> None:
    pool = make_pool()
    await load(pool, tiny_model, "aa")
    await answer(pool, tiny_model)
    (before,) = pool.loaded()
    os.kill(before.pid, signal.SIGKILL)
    await gone(before.pid)
    await reached(lambda: [one.pid for one in pool.loaded()] not in ([], [before.pid]))


async def test_dead_spare_worker_costs_nothing_but_time(
    make_pool: MakePool, tiny_model: Path
) -> None:
    pool = make_pool(spare_workers=1)
    pool.keep_spares()
    await reached(lambda: bool(pool.spare_pids))
    (spare,) = pool.spare_pids
    os.kill(spare, signal.SIGKILL)
    await gone(spare)
    assert text_of(await answer(pool, tiny_model))
