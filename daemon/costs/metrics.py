"""The ledger as Prometheus metrics: what was moved and paid, and which alerts stand."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from dreamer.daemon.costs.ledger import Ledger, Span
from dreamer.daemon.metrics import Metric
from dreamer.daemon.surfaces.costs import CostAlert
from dreamer.protocol.costs import LANES, ORIGIN, RELAY, Entry, Prices, What, costs_of


def cost_metrics(ledger: Ledger, prices: Prices, alerts: Sequence[CostAlert]) -> Iterator[Metric]:
    """Yield the metrics of a node, over all of its rooms."""
    usage = ledger.usage()
    yield Metric(
        "dreamer_moved_bytes_total",
        "counter",
        "Payload by lane and direction, over all starts; down of the cache is the store's own.",
        [
            ({"lane": lane, "direction": what.value}, usage.get(Entry(lane, what), 0))
            for lane in LANES
            for what in (What.DOWN, What.UP)
        ],
    )
    yield Metric(
        "dreamer_origin_requests_total",
        "counter",
        "Requests to rooms' origins, as S3 prices them, over all starts.",
        [
            ({"kind": what.value}, usage.get(Entry(ORIGIN, what), 0))
            for what in (What.GETS, What.PUTS, What.LISTS)
        ],
    )
    yield Metric(
        "dreamer_relay_paid_bytes_total",
        "counter",
        "Bytes through this node's own TURN allocations, both ways, over all starts.",
        [({}, usage.get(Entry(RELAY, What.PAID), 0))],
    )
    costs = costs_of(ledger.usage(Span.month(ledger.today[:7])), prices)
    yield Metric(
        "dreamer_cost_month",
        "gauge",
        "What this month (UTC) cost this node, and would have, in the currency of [cost].",
        [
            ({"kind": "paid"}, costs.paid.total),
            ({"kind": "without_peers"}, costs.without_peers.total),
            ({"kind": "without_cache"}, costs.without_cache.total),
            ({"kind": "without_both"}, costs.without_both.total),
        ],
    )
    if alerts:
        yield Metric(
            "dreamer_cost_alert",
            "gauge",
            "1 while a threshold of [cost] alerts is crossed.",
            [({"alert": one.name}, int(one.crossed)) for one in alerts],
        )
