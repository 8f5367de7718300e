"""Limits as people write them, and the buckets that hold them, in virtual time."""

from __future__ import annotations

import pytest

from dreamer.protocol.errors import InputError
from dreamer.protocol.limits import MIB, RATE_BURST_BYTES, RATE_BURST_S
from dreamer.protocol.shaping.bucket import ByteBucket
from dreamer.protocol.shaping.meters import Buckets, Shaping
from dreamer.protocol.shaping.rates import (
    Hours,
    Limits,
    Rates,
    parse_lanes,
    parse_schedule,
    rate_bytes_s,
)
from dreamer.protocol.swarm.vocabulary import Lane

NOON = 12 * 60


def sent_in(bucket: ByteBucket, seconds: float, size: int, begin: float = 0.0) -> int:
    """Return how many bytes go in a time, in pieces of one size, as soon as each may."""
    now, total = begin, 0
    while (now := bucket.ready_at(now)) < begin + seconds:
        bucket.take(size, now)
        total += size
    return total


@pytest.mark.parametrize(("mbit", "seconds"), [(1, 600.0), (20, 60.0), (8000, 1.0)])
@pytest.mark.parametrize("size", [MIB // 8, MIB, 5 * MIB])
def test_a_bucket_keeps_its_rate_in_the_long_run_whatever_the_pieces(mbit, seconds, size) -> None:
    rate = rate_bytes_s(mbit)
    bucket = ByteBucket(rate)
    sent = sent_in(bucket, seconds, size)
    assert sent >= rate * seconds * 0.99 - size
    assert sent <= rate * (seconds + RATE_BURST_S) + RATE_BURST_BYTES + size


def test_a_bucket_without_a_limit_lets_everything_go() -> None:
    bucket = ByteBucket()
    bucket.take(10**12, 0.0)
    assert bucket.level(0.0) == float("inf")
    assert bucket.ready_at(0.0) == 0.0


def test_what_is_overdrawn_is_owed_at_the_next_rate_too() -> None:
    bucket = ByteBucket(1e6)
    bucket.take(11 * MIB, 0.0)
    bucket.set_rate(1e7, 0.0)
    assert bucket.ready_at(0.0) == pytest.approx(10 * MIB / 1e7, abs=0.01)


def test_what_did_not_go_after_all_may_go_again() -> None:
    bucket = ByteBucket(1e6)
    bucket.take(5 * MIB, 0.0)
    bucket.take(-5 * MIB, 0.0)
    assert bucket.level(0.0) == pytest.approx(RATE_BURST_BYTES)


def test_a_clock_that_stands_still_gives_nothing() -> None:
    bucket = ByteBucket(1e6)
    bucket.take(2 * MIB, 5.0)
    assert bucket.level(5.0) == bucket.level(4.0) < 0


def test_a_clock_that_goes_back_and_forth_grants_no_second_twice() -> None:
    bucket = ByteBucket(1e6)
    bucket.take(5 * MIB, 100.0)
    before = bucket.level(100.0)
    for _ in range(50):
        bucket.level(90.0)
    assert bucket.level(100.0) == before < 0


# As written


def test_hours_and_lanes_are_read_as_they_are_written() -> None:
    assert parse_schedule(["08:00-18:30 up=20 down=50", "22:00-06:00 down=1.5"]) == (
        Hours(480, 1110, Rates(2_500_000.0, 6_250_000.0)),
        Hours(1320, 360, Rates(None, 187_500.0)),
    )
    assert parse_lanes(["webrtc up=8", "origin down=200"]) == (
        (Lane.WEBRTC, Rates(1e6, None)),
        (Lane.ORIGIN, Rates(None, 25e6)),
    )


@pytest.mark.parametrize(
    "line",
    [
        "",
        "08:00",
        "08:00-18:00",
        "8-18 up=2",
        "08:00-08:00 up=2",
        "25:00-26:00 up=2",
        "08:00-24:30 up=2",
        "08:00-18:00 up=0.5",
        "08:00-18:00 up=-4",
        "08:00-18:00 up=nan",
        "08:00-18:00 up=1e3",
        "08:00-18:00 up=2 up=3",
        "08:00-18:00 left=2",
        "08:00-18:00 up=2 down=3 up=4",
        "08:00-18:00 up=20000000",
    ],
)
def test_hours_that_make_no_sense_are_refused(line: str) -> None:
    with pytest.raises(InputError, match="limit"):
        parse_schedule([line])


@pytest.mark.parametrize("lines", [["wire up=2"], ["webrtc"], ["webrtc up=2", "webrtc up=3"], [""]])
def test_lanes_that_make_no_sense_are_refused(lines: list[str]) -> None:
    with pytest.raises(InputError):
        parse_lanes(lines)


# At a time of day


def test_the_first_hours_that_hold_count_and_leave_the_rest_as_always() -> None:
    limits = Limits(
        Rates(100.0, 200.0), by_hour=parse_schedule(["11:00-13:00 up=8", "00:00-24:00 down=8"])
    )
    assert limits.at(NOON) == Rates(1e6, 200.0)
    assert limits.at(13 * 60) == Rates(100.0, 1e6)


def test_hours_that_end_before_they_begin_go_over_midnight() -> None:
    limits = Limits(by_hour=parse_schedule(["22:00-06:00 up=8"]))
    assert [limits.at(hour * 60).up for hour in (21, 22, 23, 0, 5, 6)] == [
        *(None, 1e6, 1e6, 1e6, 1e6, None)
    ]


def test_a_node_goes_on_at_the_rate_of_the_new_hour() -> None:
    shaping = Shaping(Limits(Rates(up=1e6), by_hour=parse_schedule(["12:00-13:00 up=80"])))
    shaping.set_time(NOON - 1, 0.0)
    assert shaping.up.rate(Lane.DIRECT, False) == 1e6
    shaping.set_time(NOON, 60.0)
    assert shaping.up.rate(Lane.DIRECT, False) == 1e7
    assert shaping.down.rate(Lane.DIRECT, False) == float("inf")


# Buckets of a node


def buckets(total: float | None, *, lan_exempt: bool = True, **lanes: float) -> Buckets:
    made = Buckets(lan_exempt)
    made.set_rates(total, {Lane(name): rate for name, rate in lanes.items()}, 0.0)
    return made


def test_all_lanes_together_keep_the_total() -> None:
    made = buckets(1e6)
    for lane in (Lane.DIRECT, Lane.WEBRTC, Lane.ORIGIN):
        made.take(lane, False, 5e6, 0.0)
    assert made.ready_at(Lane.TORRENT, False, 0.0) == pytest.approx(14.0, abs=0.1)


def test_a_lane_keeps_its_own_limit_below_the_total() -> None:
    made = buckets(1e7, webrtc=1e6)
    made.take(Lane.WEBRTC, False, 5e6, 0.0)
    assert made.ready_at(Lane.WEBRTC, False, 0.0) == pytest.approx(4.0, abs=0.1)
    assert made.level(Lane.DIRECT, False, 1.0) > 0
    assert made.rate(Lane.WEBRTC, False) == 1e6


def test_the_local_network_is_exempt_by_choice_but_not_from_its_lanes_own_limit() -> None:
    made = buckets(1e6, direct=1e7)
    made.take(Lane.DIRECT, True, 5e6, 0.0)
    assert made.level(Lane.WEBRTC, False, 0.0) > 0, "the total was not touched"
    assert made.level(Lane.DIRECT, True, 0.0) < 0
    strict = buckets(1e6, lan_exempt=False)
    strict.take(Lane.DIRECT, True, 5e6, 0.0)
    assert strict.level(Lane.WEBRTC, False, 0.0) < 0
