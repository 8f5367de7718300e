"""What a bad line does to frames, in virtual time."""

from random import Random

import pytest

from dreamer.simulations.netlab.weather import (
    QUEUE_MAX_S,
    Line,
    Weather,
    bursty_loss,
    random_loss,
    round_trip,
)

FRAMES = 200_000


def survivors(weather: Weather, count: int = FRAMES) -> list[bool]:
    """Return for each of many frames whether it came through."""
    line = Line(weather, Random(weather.seed))
    came = []
    for number in range(count):
        line.take(b"x", float(number))
        came.append(bool(list(line.due(float(number)))))
    return came


def longest_gap(came: list[bool]) -> int:
    gaps = "".join("." if each else "x" for each in came).split(".")
    return max(map(len, gaps))


@pytest.mark.parametrize("weather", [random_loss(0.02), bursty_loss()])
def test_a_line_loses_its_share_in_the_long_run(weather):
    lost = survivors(weather).count(False) / FRAMES
    assert lost == pytest.approx(weather.mean_loss, rel=0.1)
    assert weather.mean_loss == pytest.approx(0.02, rel=0.1)


def test_bursts_take_many_frames_in_a_row_where_chance_takes_few():
    assert longest_gap(survivors(bursty_loss())) > 4 * longest_gap(survivors(random_loss(0.02)))


def test_a_frame_comes_out_after_half_the_round_trip_and_in_order():
    line = Line(round_trip(0.2), Random(1))
    line.take(b"1", 10.0)
    line.take(b"2", 10.05)
    assert list(line.due(10.099)) == []
    assert line.next_due == pytest.approx(10.1)
    assert list(line.due(10.2)) == [b"1", b"2"]
    assert line.next_due is None


def test_a_rate_spaces_frames_and_a_full_queue_drops_them():
    line = Line(Weather(rate_bits_s=8000.0), Random(1))
    frame = bytes(100)
    for _ in range(10):
        line.take(frame, 0.0)
    # One after the other at 0.1 s each; only so many may wait.
    waiting = int(QUEUE_MAX_S / 0.1) + 1
    assert [len(list(line.due(0.1 * step + 0.05))) for step in range(1, 6)] == [
        1 if step <= waiting else 0 for step in range(1, 6)
    ]
    assert line.lost == 10 - waiting
