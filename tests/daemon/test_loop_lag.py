"""What the daemon says of its own event loop."""

from __future__ import annotations

import asyncio
import time

import pytest

from dreamer.daemon.loop_lag import BUCKETS_S, LoopLag
from dreamer.protocol.limits import LOOP_BEAT_S, LOOP_LAG_WINDOW_BEATS


def beaten(*lags: float) -> LoopLag:
    """Return a measure whose beats came so late, each less than one beat."""
    measure, due = LoopLag(), 100.0
    for lag in lags:
        due = measure.beat(due, due + lag)
    return measure


def test_percentiles_are_those_of_the_beats() -> None:
    found = beaten(*[0.001] * 98, 0.030, 0.040).summary()
    assert found.p50_ms == pytest.approx(1.0)
    assert found.p99_ms == pytest.approx(30.0)
    assert found.max_ms == pytest.approx(40.0)


def test_nothing_measured_is_no_lag() -> None:
    assert LoopLag().summary().p99_ms == 0.0


def test_a_stall_counts_for_every_beat_that_fell_into_it() -> None:
    measure = LoopLag()
    due = measure.beat(10.0, 10.0 + 4.5 * LOOP_BEAT_S)
    assert due == pytest.approx(10.0 + 5 * LOOP_BEAT_S)
    found = measure.summary()
    assert sum(found.beats) == 5
    assert found.max_ms == pytest.approx(4500 * LOOP_BEAT_S)
    assert found.p50_ms == pytest.approx(2500 * LOOP_BEAT_S)


def test_a_beat_before_its_time_has_no_lag() -> None:
    measure = LoopLag()
    measure.beat(10.0, 9.999)
    assert measure.summary().max_ms == 0.0


def test_a_day_in_a_drawer_costs_no_more_than_the_window() -> None:
    measure = LoopLag()
    due = measure.beat(10.0, 86_410.0)
    assert due > 86_410.0
    assert sum(measure.summary().beats) == LOOP_LAG_WINDOW_BEATS + 1


def test_the_window_forgets_and_the_histogram_does_not() -> None:
    measure = beaten(0.02, *[0.0] * LOOP_LAG_WINDOW_BEATS)
    found = measure.summary()
    assert found.max_ms == pytest.approx(0.0, abs=0.001)
    assert found.beats[BUCKETS_S.index(0.02) : BUCKETS_S.index(0.02) + 2] != (0, 0)
    assert found.total_s == pytest.approx(0.02)


async def test_a_loop_held_up_is_found_out() -> None:
    measure = LoopLag()
    running = asyncio.create_task(measure.run())
    try:
        await asyncio.sleep(0)
        time.sleep(6 * LOOP_BEAT_S)
        async with asyncio.timeout(10):
            while not sum(measure.summary().beats):
                await asyncio.sleep(0)
        assert measure.summary().max_ms >= 4000 * LOOP_BEAT_S
    finally:
        running.cancel()
        await asyncio.wait([running])
