"""The most that passed within some seconds."""

from __future__ import annotations

from dreamer.protocol.limits import PEAK_RATE_WINDOW_S
from dreamer.protocol.swarm.peak_rate import PeakRate


def fed(*samples: tuple[float, int]) -> PeakRate:
    """Return a measure that was told these totals at these times, in windows."""
    found = PeakRate()
    for windows, total in samples:
        found.note(total, 100.0 + windows * PEAK_RATE_WINDOW_S)
    return found


def test_nothing_is_known_before_a_window_has_passed():
    assert fed((0, 0), (0.9, 10**9)).bytes_s == 0.0


def test_steady_stream_shows_its_rate():
    steps = [(i / 4, i * 1000) for i in range(9)]
    assert fed(*steps).bytes_s == 4000 / PEAK_RATE_WINDOW_S


def test_pause_before_and_after_takes_nothing_from_the_peak():
    busy = [(10 + i / 3, i * 3000) for i in range(7)]
    found = fed((0, 0), (9, 0), *busy, (20, 18_000), (30, 18_000))
    assert found.bytes_s == 9000 / PEAK_RATE_WINDOW_S


def test_burst_counts_as_spread_over_a_window():
    assert fed((0, 0), (0.5, 6000), (1, 6000), (2, 6000)).bytes_s == 6000 / PEAK_RATE_WINDOW_S


def test_only_a_higher_rate_is_told_as_one():
    found = PeakRate()
    found.note(0, 0.0)
    assert found.note(500, PEAK_RATE_WINDOW_S)
    assert not found.note(900, 2 * PEAK_RATE_WINDOW_S)
    assert found.note(2000, 3 * PEAK_RATE_WINDOW_S)
