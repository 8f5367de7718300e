"""Looks at the thresholds of ``[cost] alerts`` now and then, and says once what is crossed."""

from __future__ import annotations

import asyncio
import logging

from dreamer.daemon.costs.ledger import Ledger, Span
from dreamer.daemon.surfaces.costs import CostAlert
from dreamer.protocol.cache_limits import COST_ALERTS_LOOK_S
from dreamer.protocol.cost_alerts import Alert, AlertWatch
from dreamer.protocol.errors import LocalError

log = logging.getLogger(__name__)


class CostAlerts:
    """This node's thresholds, over all of its rooms together."""

    def __init__(self, ledger: Ledger, watch: AlertWatch) -> None:
        self._ledger = ledger
        self._watch = watch

    async def run(self) -> None:
        """Look every minute until cancelled."""
        while self._watch.thresholds:
            try:
                self.standing()
            except LocalError as error:
                log.error("can't tell what was moved: %s", error)
            await asyncio.sleep(COST_ALERTS_LOOK_S)

    def standing(self) -> tuple[CostAlert, ...]:
        """Return how each threshold stands now; what has just been crossed is logged.

        Raises:
            LocalError: the ledger can't be read.
        """
        if not self._watch.thresholds:
            return ()
        today = self._ledger.today
        usages = {
            "day": self._ledger.usage(Span.day(today)),
            "month": self._ledger.usage(Span.month(today[:7])),
        }
        alerts, news = self._watch.look(usages, today)
        for alert in news:
            log.warning(
                "%s is %.2f in %s: more than the %g of [cost] alerts; 'dreamer cost' shows why",
                *(alert.threshold.name, alert.value, alert.period, alert.threshold.limit),
            )
        return tuple(_shown(alert) for alert in alerts)


def _shown(alert: Alert) -> CostAlert:
    name, limit = alert.threshold.name, alert.threshold.limit
    return CostAlert(name, limit, alert.value, alert.period, alert.crossed)
