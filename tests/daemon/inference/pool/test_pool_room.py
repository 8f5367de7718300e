"""What stays in memory and what leaves it: bounds, keep-alive, pins, eviction."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from pathlib import Path

import psutil
import pytest
from pool_calls import (
    DEADLINE_S,
    REQUEST,
    MakePool,
    answer,
    gone,
    load,
    names,
    reached,
    text_of,
)

from dreamer.daemon.inference.pool.pool import Pool
from dreamer.daemon.inference.requests import GenerateRequest
from dreamer.protocol.errors import InputError, LocalError
from dreamer.protocol.limits import MIB

LONG = GenerateRequest(prompt="and then", max_tokens=400)


async def test_least_recently_used_model_makes_room(make_pool: MakePool, tiny_model: Path) -> None:
    pool = make_pool(max_models=2)
    for name in ("aa", "bb", "aa", "cc"):
        await answer(pool, tiny_model, name)
    assert names(pool) == ["aa", "cc"]


async def test_least_frequently_used_model_makes_room(
    make_pool: MakePool, tiny_model: Path
) -> None:
    pool = make_pool(max_models=2, eviction="lfu")
    for name in ("aa", "aa", "bb", "cc"):
        await answer(pool, tiny_model, name)
    assert names(pool) == ["aa", "cc"]


async def test_evicting_gives_the_memory_back_to_the_system(
    make_pool: MakePool, tiny_model: Path
) -> None:
    pool = make_pool()
    before = tree_bytes()
    await answer(pool, tiny_model)
    (model,) = pool.loaded()
    loaded = tree_bytes()
    assert loaded - before > 40 * MIB
    await pool.evict("aa")
    await gone(model.pid)
    # What is left is this process's own: what it has imported and read meanwhile.
    assert tree_bytes() - before < (loaded - before) / 4
    await pool.evict("never heard of")


def tree_bytes() -> int:
    """Return the resident memory of this process and all below it."""
    here = psutil.Process()
    return sum(one.memory_info().rss for one in (here, *here.children(recursive=True)))


async def test_load_that_would_pass_the_memory_bound_evicts_before(
    make_pool: MakePool, tiny_model: Path
) -> None:
    pool = make_pool(max_models=9)
    await answer(pool, tiny_model, "aa")
    (model,) = pool.loaded()
    bounded = make_pool(max_models=9, max_memory_bytes=int(model.rss_bytes * 2.5))
    for name in ("aa", "bb", "cc"):
        await answer(bounded, tiny_model, name)
        assert sum(one.rss_bytes for one in bounded.loaded()) <= model.rss_bytes * 2.5
    assert names(bounded) == ["bb", "cc"]


async def test_model_that_takes_more_than_its_files_say_has_others_leave(
    make_pool: MakePool, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dreamer.daemon.inference.pool.loading.INFERENCE_WORKER_BASE_BYTES", 0)
    pool = make_pool(max_models=9)
    await answer(pool, tiny_model, "aa")
    (model,) = pool.loaded()
    bounded = make_pool(max_models=9, max_memory_bytes=int(model.rss_bytes * 1.5))
    await answer(bounded, tiny_model, "aa")
    await answer(bounded, tiny_model, "bb")
    assert names(bounded) == ["bb"]


async def test_model_larger_than_the_bound_says_which_setting_is_in_the_way(
    make_pool: MakePool, tiny_model: Path
) -> None:
    pool = make_pool(max_memory_bytes=10 * MIB)
    with pytest.raises(LocalError, match="max_memory_gb"):
        await answer(pool, tiny_model)


async def test_idle_model_is_unloaded(make_pool: MakePool, tiny_model: Path) -> None:
    pool = make_pool(idle_timeout_s=0.1)
    events = pool.generate(tiny_model, "aa", REQUEST)
    async with aclosing(events):
        await anext(events)
        (model,) = pool.loaded()
    await gone(model.pid)
    await reached(lambda: names(pool) == [])
    (told,) = pool.statistics()
    assert (told.evictions, told.workers, told.memory_bytes) == (1, (), 0)


async def test_keep_alive_of_a_request_outlives_the_settings_or_ends_at_once(
    make_pool: MakePool, tiny_model: Path
) -> None:
    pool = make_pool(idle_timeout_s=0.1)
    await answer(pool, tiny_model, "aa", keep_alive_s=3600.0)
    await answer(pool, tiny_model, "bb", keep_alive_s=0.0)
    await reached(lambda: names(pool) == ["aa"])
    aa, _ = pool.statistics()
    assert aa.expires_at is not None
    assert 3500 < aa.expires_at - time.time() <= 3600
    # A later request says otherwise, and is not kept waiting for the hour.
    await answer(pool, tiny_model, "aa", keep_alive_s=0.05)
    await reached(lambda: names(pool) == [])


async def test_keep_alive_holds_though_the_request_that_said_it_took_its_time(
    make_pool: MakePool, tiny_model: Path
) -> None:
    # The pool looks who may go while the request runs; it must look again when its time is up.
    pool = make_pool(idle_timeout_s=3600.0)
    await answer(pool, tiny_model)
    async with aclosing(pool.generate(tiny_model, "aa", LONG, 0.2)) as said:
        async for _ in said:
            pass
    await reached(lambda: names(pool) == [])


async def test_keep_alive_said_while_the_model_leaves_is_not_forgotten(
    make_pool: MakePool, tiny_model: Path
) -> None:
    pool = make_pool()
    await answer(pool, tiny_model, "aa", keep_alive_s=0.0)
    await reached(lambda: names(pool) == [])
    # Its worker is only being ended now.
    await answer(pool, tiny_model, "aa", keep_alive_s=-1.0)
    assert pool.statistics()[0].pinned


async def test_model_that_is_not_kept_alive_stays_while_others_use_it(
    make_pool: MakePool, tiny_model: Path
) -> None:
    pool = make_pool()
    async with aclosing(pool.generate(tiny_model, "aa", LONG)) as other:
        await anext(other)
        assert text_of(await answer(pool, tiny_model, "aa", keep_alive_s=0.0))
        assert names(pool) == ["aa"]
    await reached(lambda: names(pool) == [])


async def test_pinned_model_has_no_end(make_pool: MakePool, tiny_model: Path) -> None:
    pool = make_pool(idle_timeout_s=0.0)
    await answer(pool, tiny_model, "aa", keep_alive_s=-1.0)
    await answer(pool, tiny_model, "bb")
    await reached(lambda: names(pool) == ["aa"])
    aa, _ = pool.statistics()
    assert aa.pinned
    assert aa.expires_at is None


async def test_evicted_model_serves_who_asked_before(make_pool: MakePool, tiny_model: Path) -> None:
    pool = make_pool(slots=1)
    await answer(pool, tiny_model)
    async with aclosing(pool.generate(tiny_model, "aa", LONG)) as first:
        await anext(first)
        before = asyncio.create_task(answer(pool, tiny_model))
        await reached(lambda: pool.pending == 2)
        evicting = asyncio.create_task(pool.evict("aa"))
        # One round of the loop: the eviction has begun when the first request ends.
        await asyncio.sleep(0)
    assert text_of(await before)
    async with asyncio.timeout(DEADLINE_S):
        await evicting
    assert names(pool) == []
    (told,) = pool.statistics()
    assert (told.loads, told.evictions) == (1, 1)


async def test_busy_model_is_asked_to_end_for_another_after_a_while(
    make_pool: MakePool, tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dreamer.daemon.inference.pool.seats.INFERENCE_DRAIN_AFTER_S", 0.05)
    pool = make_pool(max_models=1)
    stop = asyncio.Event()

    async def ask_for_ever() -> None:
        while not stop.is_set():
            await answer(pool, tiny_model, "aa")

    askers = [asyncio.create_task(ask_for_ever()) for _ in range(3)]
    await reached(lambda: names(pool) == ["aa"])
    assert text_of(await answer(pool, tiny_model, "bb"))
    stop.set()
    await asyncio.gather(*askers)


async def test_model_loaded_to_stay_is_not_ended_for_being_idle(
    make_pool: MakePool, tiny_model: Path
) -> None:
    pool = make_pool(idle_timeout_s=0.0)
    await load(pool, tiny_model, "aa")
    await answer(pool, tiny_model, "bb")
    await reached(lambda: names(pool) == ["aa"])


async def test_next_model_is_loaded_beside_the_one_it_replaces(
    make_pool: MakePool, tiny_model: Path
) -> None:
    pool = make_pool(max_models=1)
    await load(pool, tiny_model, "aa")
    await load(pool, tiny_model, "bb", instead_of="aa")
    assert names(pool) == ["aa", "bb"]
    await evicted(pool, "aa")
    assert names(pool) == ["bb"]


async def evicted(pool: Pool, name: str) -> None:
    async with asyncio.timeout(DEADLINE_S):
        await pool.evict(name)


async def test_more_models_to_stay_than_may_be_loaded_are_refused(
    make_pool: MakePool, tiny_model: Path
) -> None:
    pool = make_pool(max_models=1)
    await load(pool, tiny_model, "aa")
    with pytest.raises(LocalError, match="max_models"):
        await pool.load(tiny_model, "bb")
    await evicted(pool, "aa")
    await load(pool, tiny_model, "bb")
    assert names(pool) == ["bb"]


async def test_model_that_is_to_stay_makes_room_last_of_all(
    make_pool: MakePool, tiny_model: Path
) -> None:
    pool = make_pool(max_models=2)
    await load(pool, tiny_model, "aa")
    await answer(pool, tiny_model, "bb")
    await answer(pool, tiny_model, "cc")
    assert names(pool) == ["aa", "cc"]


async def test_model_that_can_not_be_loaded_takes_no_place(
    make_pool: MakePool, tiny_model: Path, tmp_path: Path
) -> None:
    pool = make_pool(max_models=1)
    with pytest.raises(InputError):
        await load(pool, tmp_path, "bad")
    await load(pool, tiny_model, "aa")
    assert names(pool) == ["aa"]
