"""Thresholds of what a node moves and pays for: which are crossed, and which have just been.

A threshold is written ``NAME=NUMBER``, such as ``origin_gb_per_day=50``. It is crossed when what
its name measures is more than the number, and stays so until its day or month (UTC) is over. One
crossing is news once, however often somebody looks.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from dreamer.protocol.cache_limits import COST_ALERTS_MAX
from dreamer.protocol.costs import GB, ORIGIN, RELAY, Entry, Prices, Usage, What, costs_of
from dreamer.protocol.errors import InputError

Measure = Callable[[Usage, Prices], float]

_MEASURES: dict[str, Measure] = {
    "origin_gb": lambda usage, prices: usage.get(Entry(ORIGIN, What.DOWN), 0) / GB,
    "relay_gb": lambda usage, prices: usage.get(Entry(RELAY, What.PAID), 0) / GB,
    "cost": lambda usage, prices: costs_of(usage, prices).paid.total,
}
_PERIODS = ("day", "month")
NAMES = tuple(f"{measure}_per_{period}" for measure in _MEASURES for period in _PERIODS)


@dataclass(frozen=True)
class Threshold:
    """``name`` is one of ``NAMES``; ``limit`` in GB, or in the currency of the prices."""

    name: str
    limit: float

    @property
    def period(self) -> str:
        """``day`` or ``month``."""
        return self.name.rpartition("_")[2]

    def measure(self, usage: Usage, prices: Prices) -> float:
        """Return what is compared with the limit."""
        return _MEASURES[self.name.partition("_per_")[0]](usage, prices)


@dataclass(frozen=True)
class Alert:
    """How a threshold stands in ``period`` (``2026-11-21`` or ``2026-11``)."""

    threshold: Threshold
    value: float
    period: str

    @property
    def crossed(self) -> bool:
        """Whether it is more than was allowed."""
        return self.value > self.threshold.limit


def parse_alerts(lines: Sequence[str]) -> tuple[Threshold, ...]:
    """Return the thresholds of a setting.

    Raises:
        InputError: one of them can't be read, is no known one, or stands there twice.
    """
    if len(lines) > COST_ALERTS_MAX:
        raise InputError(f"there can be {COST_ALERTS_MAX} alerts, not {len(lines)}")
    found = [_parse(line) for line in lines]
    if len({one.name for one in found}) < len(found):
        raise InputError("an alert stands there twice")
    return tuple(found)


def _parse(line: str) -> Threshold:
    name, _, number = (part.strip() for part in line.partition("="))
    if name not in NAMES:
        raise InputError(f"no alert {name!r:.40}; it can be: {', '.join(NAMES)}")
    try:
        limit = float(number)
    except ValueError:
        limit = -1.0
    if not 0 <= limit < math.inf:
        raise InputError(f"{name} is given as {name}=NUMBER, not {line!r:.80}")
    return Threshold(name, limit)


class AlertWatch:
    """Looks at the thresholds of one node now and then."""

    def __init__(self, thresholds: Sequence[Threshold], prices: Prices) -> None:
        self.thresholds = tuple(thresholds)
        self._prices = prices
        # The period in which each was last seen crossed.
        self._told: dict[str, str] = {}

    def look(self, usages: Mapping[str, Usage], today: str) -> tuple[list[Alert], list[Alert]]:
        """Return how each threshold stands, and those that are crossed since the last look.

        Args:
            usages: what was moved in this ``day`` and this ``month``, by these two names.
            today: ``YYYY-MM-DD``, UTC.
        """
        alerts = [self._alert(one, usages[one.period], today) for one in self.thresholds]
        news = [
            alert
            for alert in alerts
            if alert.crossed and self._told.get(alert.threshold.name) != alert.period
        ]
        self._told |= {alert.threshold.name: alert.period for alert in news}
        return alerts, news

    def _alert(self, threshold: Threshold, usage: Usage, today: str) -> Alert:
        period = today if threshold.period == "day" else today[:7]
        return Alert(threshold, threshold.measure(usage, self._prices), period)
