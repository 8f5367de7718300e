"""What goes before all else keeps to the rate itself, and all else waits until that is made up."""

from __future__ import annotations

import pytest

from dreamer.protocol.limits import RATE_BURST_BYTES
from dreamer.protocol.shaping.bucket import ByteBucket
from dreamer.protocol.shaping.meters import Buckets
from dreamer.protocol.swarm.vocabulary import Lane

RATE = float(RATE_BURST_BYTES)
"""Bytes a second: the burst is a second's."""


def test_promised_bytes_go_as_the_rate_lets_them_and_others_wait_for_all_of_them() -> None:
    bucket = ByteBucket(RATE)
    bucket.promise(4 * RATE, 0.0)
    assert bucket.level(0.0) == -3 * RATE
    gone, now = 0.0, 0.0
    while gone < 4 * RATE:
        while bucket.promised_level(now) > 0 and gone < 4 * RATE:
            bucket.keep(RATE / 4)
            gone += RATE / 4
        # A burst at first, and the rate from then on; a piece may overdraw it.
        assert gone <= RATE * (1 + now) + RATE / 4
        now = bucket.promised_ready_at(now)
    assert now == pytest.approx(3.0, abs=0.3)
    assert bucket.ready_at(now) == pytest.approx(3.0, abs=0.1)


def test_what_is_taken_back_is_given_back() -> None:
    bucket = ByteBucket(RATE)
    bucket.promise(4 * RATE, 0.0)
    bucket.promise(-4 * RATE, 0.0)
    assert bucket.level(0.0) == RATE
    assert bucket.promised_level(0.0) == RATE


def test_without_a_limit_all_may_go_at_once() -> None:
    buckets = Buckets(lan_exempt=True)
    buckets.promise(Lane.DIRECT, False, 1e12, 0.0)
    assert buckets.promised_level(Lane.DIRECT, False, 0.0) == float("inf")
    assert buckets.promised_ready_at(Lane.DIRECT, False, 5.0) == 5.0


def test_limit_of_the_whole_does_not_hold_within_the_site() -> None:
    buckets = Buckets(lan_exempt=True)
    buckets.set_rates(RATE, {}, 0.0)
    buckets.promise(Lane.DIRECT, True, 1e12, 0.0)
    assert buckets.promised_level(Lane.DIRECT, True, 0.0) == float("inf")
    buckets.promise(Lane.DIRECT, False, 2 * RATE, 0.0)
    buckets.keep(Lane.DIRECT, False, 2 * RATE)
    assert buckets.promised_level(Lane.DIRECT, False, 0.0) == -RATE


def test_promised_bytes_that_nobody_takes_are_one_burst_however_long_they_wait() -> None:
    bucket = ByteBucket(RATE)
    bucket.promise(10 * RATE, 0.0)
    assert bucket.promised_level(30.0) == RATE
    assert bucket.level(30.0) == RATE, "what they did not use is others'"
    # They count when they go after all, so that others wait for them.
    bucket.keep(10 * RATE)
    assert bucket.level(30.0) == -9 * RATE
    assert bucket.promised_level(30.0) == -9 * RATE


def test_all_that_goes_keeps_to_the_rate_though_its_taker_is_slow() -> None:
    bucket, gone = ByteBucket(RATE), [0.0]
    bucket.promise(30 * RATE, 0.0)
    for tick in range(240):
        now, going = tick / 4, 0.0
        if tick % 8 == 0 and bucket.promised_level(now) > 0:
            bucket.keep(RATE / 4)
            going += RATE / 4
        while bucket.level(now) > 0:
            bucket.take(RATE / 4, now)
            going += RATE / 4
        gone.append(gone[-1] + going)
    # From any moment on: a burst, and the rate; a piece of either kind may overdraw it.
    for since in range(240):
        for until in range(since, 240):
            going = gone[until + 1] - gone[since]
            assert going <= RATE * (1 + (until - since) / 4) + RATE / 2


def test_no_more_is_given_back_than_is_still_set_aside() -> None:
    bucket = ByteBucket(RATE)
    bucket.promise(10 * RATE, 0.0)
    assert bucket.level(5.0) == -4 * RATE
    bucket.take(3 * RATE, 5.0)
    bucket.promise(-10 * RATE, 5.0)
    # A burst, less what others took.
    assert bucket.level(5.0) == -2 * RATE


def test_what_was_promised_without_a_limit_is_no_burst_under_one() -> None:
    bucket = ByteBucket(None)
    bucket.promise(100 * RATE, 0.0)
    bucket.set_rate(RATE, 1.0)
    assert bucket.promised_level(1.0) == RATE
    bucket.keep(2 * RATE)
    assert bucket.promised_level(1.0) == -RATE
