"""Figures as people read them."""

import pytest

from dreamer.simulations.report import quantities


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (999_960, "1.0 MB"),
        (14 * 10**9, "14.0 GB"),
        (3.2e15, "3.2 PB"),
        (5e19, "50,000.0 PB"),
    ],
)
def test_sizes_are_decimal_as_on_a_bill(count, text):
    assert quantities.size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (2.34, "2.3 s"),
        (99.99, "1 min 40 s"),
        (245, "4 min 05 s"),
        (3599.7, "1 h 00 min"),
        (86_399, "1 d 0 h"),
        (30 * 86_400, "30 d 0 h"),
    ],
)
def test_times_carry_over_into_the_next_unit(seconds, text):
    assert quantities.duration(seconds) == text


@pytest.mark.parametrize(
    ("part", "text"),
    [(0, "0%"), (0.0004, "<0.1%"), (0.5, "50.0%"), (0.9996, ">99.9%"), (1, "100%")],
)
def test_nearly_all_does_not_read_as_all(part, text):
    assert quantities.share(part) == text


@pytest.mark.parametrize(
    ("bytes_s", "unit"), [(0, "kbit/s"), (2e6, "Mbit/s"), (125e6, "Gbit/s"), (1e13, "Tbit/s")]
)
def test_a_rate_axis_counts_in_a_unit_that_reads_well(bytes_s, unit):
    name, divisor = quantities.rate_unit(bytes_s)
    assert name == unit
    assert bytes_s / divisor < 1000


@pytest.mark.parametrize(
    ("longest_s", "unit"), [(160, "s"), (4000, "min"), (86_400, "h"), (30 * 86_400, "days")]
)
def test_a_time_axis_counts_in_a_unit_that_reads_well(longest_s, unit):
    assert quantities.time_unit(longest_s)[0] == unit


def test_cents_are_said_where_they_count():
    assert [quantities.usd(amount) for amount in (0.5, 96.03, 1696.4)] == [
        "$0.50",
        "$96.03",
        "$1,696",
    ]
