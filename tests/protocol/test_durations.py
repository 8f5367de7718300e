import pytest

from dreamer.protocol.durations import DAY_S, duration


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.0, "0s"),
        (0.5, "0.5s"),
        (10, "10s"),
        (90, "1.5m"),
        (3600, "1h"),
        (DAY_S, "1d"),
        (90 * DAY_S, "90d"),
        (365 * DAY_S, "365d"),
        (1e30, "more than 100 years"),
        (float("inf"), "more than 100 years"),
        (float("nan"), "more than 100 years"),
    ],
)
def test_durations_read_as_people_write_them(seconds, said):
    assert duration(seconds) == said
