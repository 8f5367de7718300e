"""Thresholds: what is crossed, and that it is news once."""

from __future__ import annotations

import pytest

from dreamer.protocol.cost_alerts import AlertWatch, Threshold, parse_alerts
from dreamer.protocol.costs import GB, ORIGIN, RELAY, Entry, Prices, What
from dreamer.protocol.errors import InputError

ORIGIN_DOWN = Entry(ORIGIN, What.DOWN)
PAID = Entry(RELAY, What.PAID)


def used(day_gb: float, month_gb: float, what: Entry = ORIGIN_DOWN) -> dict:
    return {"day": {what: int(day_gb * GB)}, "month": {what: int(month_gb * GB)}}


def watch(*lines: str) -> AlertWatch:
    return AlertWatch(parse_alerts(lines), Prices())


def names(alerts) -> list[str]:
    return [alert.threshold.name for alert in alerts]


def test_a_crossing_is_news_once_and_stands_until_its_day_is_over() -> None:
    watching = watch("origin_gb_per_day=50")
    alerts, news = watching.look(used(50, 50), "2026-11-21")
    assert (news, [alert.crossed for alert in alerts]) == ([], [False])
    _, news = watching.look(used(50.1, 50.1), "2026-11-21")
    assert names(news) == ["origin_gb_per_day"]
    assert news[0].value == pytest.approx(50.1)
    for _ in range(3):
        alerts, news = watching.look(used(60, 60), "2026-11-21")
        assert (news, [alert.crossed for alert in alerts]) == ([], [True])
    alerts, news = watching.look(used(0, 60), "2026-11-22")
    assert (news, [alert.crossed for alert in alerts]) == ([], [False])
    _, news = watching.look(used(51, 111), "2026-11-22")
    assert [alert.period for alert in news] == ["2026-11-22"]


def test_a_month_is_told_once_though_its_days_change() -> None:
    watching = watch("relay_gb_per_month=20")
    _, news = watching.look(used(1, 21, PAID), "2026-11-21")
    assert [alert.period for alert in news] == ["2026-11"]
    assert watching.look(used(1, 22, PAID), "2026-11-22")[1] == []
    assert watching.look(used(1, 1, PAID), "2026-12-01")[1] == []
    assert names(watching.look(used(1, 21, PAID), "2026-12-09")[1]) == ["relay_gb_per_month"]


def test_money_is_measured_with_the_prices() -> None:
    watching = watch("cost_per_month=9")
    assert watching.look(used(0, 99), "2026-11-21")[1] == []
    (alert,) = watching.look(used(0, 101), "2026-11-21")[1]
    assert alert.value == pytest.approx(9.09)


def test_several_are_looked_at_by_themselves() -> None:
    watching = watch("origin_gb_per_day=1", "origin_gb_per_month=100", "cost_per_day=0")
    alerts, news = watching.look(used(2, 2), "2026-11-21")
    assert names(news) == ["origin_gb_per_day", "cost_per_day"]
    assert names(alerts) == ["origin_gb_per_day", "origin_gb_per_month", "cost_per_day"]


def test_alerts_are_read_as_they_are_written() -> None:
    assert parse_alerts(["origin_gb_per_day=50", " cost_per_month = 1.5 "]) == (
        Threshold("origin_gb_per_day", 50.0),
        Threshold("cost_per_month", 1.5),
    )


@pytest.mark.parametrize(
    "line", ["origin_gb=5", "cost_per_week=5", "cost_per_day", "cost_per_day=-1",
             "cost_per_day=much", "cost_per_day=inf", "cost_per_day=nan", ""],
)  # fmt: skip
def test_a_threshold_that_is_none_is_refused(line: str) -> None:
    with pytest.raises(InputError, match="cost_per_day"):
        parse_alerts([line])


def test_a_threshold_stands_there_once() -> None:
    with pytest.raises(InputError, match="twice"):
        parse_alerts(["cost_per_day=1", "cost_per_day=2"])


def test_there_are_not_too_many() -> None:
    with pytest.raises(InputError, match="16"):
        parse_alerts(["cost_per_day=1"] * 17)
