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
