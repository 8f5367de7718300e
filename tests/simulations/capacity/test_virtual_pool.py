"""The pool of models in virtual time does what the daemon's own does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest

from dreamer.daemon.inference.pool.pool import Pool, PoolSettings
from dreamer.daemon.inference.requests import GenerateRequest, Text
from dreamer.protocol.errors import LocalError
from dreamer.simulations.capacity.virtual_pool import Generation, VirtualPool
from dreamer.simulations.engine.clock import Clock

Told = list[tuple[int, str, float]]

MAX_MODELS, QUEUE_MAX = 2, 4


@dataclass(frozen=True)
class Ask:
    """A request at a moment; its user goes away at ``gives_up_s`` if no word has come."""

    at_s: float
    load_s: float
    prefill_s: float
    decode_s: float
    gives_up_s: float


def _drawn(seed: int, count: int) -> list[Ask]:
    rng, now, asks = Random(seed), 0.0, []
    for _ in range(count):
        # Now and then a pause in which models are let go for being idle.
        now += rng.expovariate(0.8) if rng.random() < 0.97 else 400.0
        load_s = rng.choice((0.5, 1.25, 2.0, 3.0))
        asks.append(
            # No two at the same moment: which comes first then is nobody's promise.
            Ask(now, load_s, rng.random(), 3 * rng.random(), now + rng.uniform(2.0, 20.0))
        )
    return asks


async def _daemons_own(asks: list[Ask]) -> Told:
    loop, told = asyncio.get_running_loop(), Told()
    pool = Pool(PoolSettings(max_models=MAX_MODELS, threads=1, slots=1, queue_max=QUEUE_MAX))

    async def one(number: int, ask: Ask) -> None:
        await asyncio.sleep(ask.at_s - loop.time())
        first = asyncio.get_running_loop().create_future()

        async def answered() -> None:
            request = GenerateRequest(prompt=f"{ask.prefill_s} {ask.decode_s}")
            try:
                path = Path(str(ask.load_s))
                async with aclosing(pool.generate(path, path.name, request)) as events:
                    async for event in events:
                        if isinstance(event, Text):
                            told.append((number, "first", loop.time()))
                            first.set_result(None)
                told.append((number, "end", loop.time()))
            except LocalError:
                told.append((number, "refused", loop.time()))

        task = asyncio.create_task(answered())
        patience_s = ask.gives_up_s - loop.time()
        await asyncio.wait([task, first], timeout=patience_s, return_when="FIRST_COMPLETED")
        if not first.done() and not task.done():
            task.cancel()
            told.append((number, "gave up", loop.time()))
        await asyncio.wait([task])

    await asyncio.gather(*(one(number, ask) for number, ask in enumerate(asks)))
    await pool.close()
    return told


def _ours(asks: list[Ask]) -> Told:
    clock, told = Clock(), Told()
    pool = VirtualPool(clock, max_models=MAX_MODELS, queue_max=QUEUE_MAX)

    def say(number: int, what: str) -> None:
        told.append((number, what, clock.now))

    def give_up(number: int, generation: Generation) -> None:
        if (number, "first") not in {(who, what) for who, what, _ in told}:
            pool.cancel(generation)
            say(number, "gave up")

    def begin(number: int, ask: Ask) -> None:
        generation = Generation(
            str(ask.load_s),
            ask.load_s,
            ask.prefill_s,
            ask.decode_s,
            partial(say, number, "first"),
            partial(say, number, "end"),
        )
        if pool.offer(generation):
            clock.at(ask.gives_up_s, partial(give_up, number, generation))
        else:
            say(number, "refused")

    for number, ask in enumerate(asks):
        clock.at(ask.at_s, partial(begin, number, ask))
    clock.run()
    assert pool.pending == 0
    return told


@pytest.mark.parametrize("seed", range(6))
def test_virtual_pool_answers_as_the_daemons_own(
    seed: int, in_virtual_time: Callable[[Coroutine[Any, Any, Told]], Told]
) -> None:
    asks = _drawn(seed, 150)
    real, ours = in_virtual_time(_daemons_own(asks)), _ours(asks)
    assert {what for _, what, _ in real} == {"first", "end", "gave up", "refused"}
    assert [(who, what) for who, what, _ in sorted(ours)] == [
        (who, what) for who, what, _ in sorted(real)
    ]
    assert [at for *_, at in sorted(ours)] == pytest.approx([at for *_, at in sorted(real)])


def test_two_models_at_once_make_a_node_busy_once() -> None:
    clock, busy = Clock(), list[tuple[float, float]]()
    pool = VirtualPool(clock, lambda begun, ended: busy.append((begun, ended)))

    def nothing() -> None:
        pass

    for model, at_s in (("a", 0.0), ("b", 1.0), ("a", 20.0)):
        asked = Generation(model, 0.0, 1.0, 3.0, nothing, nothing)
        clock.at(at_s, partial(pool.offer, asked))
    clock.run()
    assert busy == [(0.0, 5.0), (20.0, 24.0)]
