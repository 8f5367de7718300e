"""The metrics of one node, made from what it counts: ``GET /metrics``."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dreamer.daemon.links.lane_bytes import LaneBytes
from dreamer.daemon.loop_lag import BUCKETS_S
from dreamer.daemon.metrics import Histogram, Metric

PERIODS = ("day", "month")


def node_metrics(status: dict[str, Any], lanes: LaneBytes) -> Iterator[Metric | Histogram]:
    """Yield every metric. ``status`` is what ``ports.Node.status`` returns."""
    yield _gauge("dreamer_uptime_seconds", "Since the daemon started.", status["uptime_s"])
    yield Metric("dreamer_info", "gauge", "Always 1.", [({"version": str(status["version"])}, 1)])
    yield from _links(lanes)
    yield from _relays(status["relay"])
    yield _gauge("dreamer_pulls", "Pulls under way.", len(status["pulls"]))
    yield Metric(
        "dreamer_pulled_bytes_total",
        "counter",
        "Bytes that pulls brought, by lane, over all starts; those of the cache were here.",
        [({"lane": lane}, size) for lane, size in status["bytes_by_lane"].items()],
    )
    yield Metric(
        "dreamer_store_bytes",
        "gauge",
        "The store on disk: models, models half here, and what is free.",
        [
            ({"kind": kind}, status["store"][f"{kind}_bytes"])
            for kind in ("content", "partial", "free")
        ],
    )
    lag = status["loop_lag"]
    about = "How late the daemon's event loop ran."
    name = "dreamer_event_loop_lag_seconds"
    yield Histogram(name, about, BUCKETS_S, lag["beats"], lag["total_s"])


def _links(lanes: LaneBytes) -> Iterator[Metric]:
    totals = lanes.totals()
    yield Metric(
        "dreamer_links",
        "gauge",
        "Links to members that stand, by the lane of their blocks.",
        [({"lane": lane.value}, count) for lane, count in lanes.standing().items()],
    )
    yield _gauge(
        "dreamer_links_relay_spent",
        "Links that carry no blocks, for the relay below has used up a budget.",
        lanes.spent(),
    )
    yield Metric(
        "dreamer_link_payload_bytes_total",
        "counter",
        "Payload of blocks over links since the start, verified or not.",
        [
            ({"lane": lane.value, "direction": direction}, getattr(total, direction))
            for lane, total in totals.items()
            for direction in ("down", "up")
        ],
    )


def _relays(relay: dict[str, Any]) -> Iterator[Metric]:
    # Gauges, not counters: each begins anew with its day or month (UTC).
    yield Metric(
        "dreamer_relayed_bytes",
        "gauge",
        "Bytes over relays both ways in this day and month, all peers together.",
        [({"period": period}, relay[f"{period}_bytes"]) for period in PERIODS],
    )
    yield Metric(
        "dreamer_relay_budget_bytes",
        "gauge",
        "What relays may carry in a day and a month, and in a month with one peer.",
        [
            ({"period": "day"}, relay["budget_bytes"]["per_day_bytes"]),
            ({"period": "month"}, relay["budget_bytes"]["per_month_bytes"]),
            ({"period": "peer_month"}, relay["budget_bytes"]["per_peer_bytes"]),
        ],
    )
    peers = [
        # The whole id: others can find a key that begins like a member's, and two samples with
        # the same labels make Prometheus throw all of them away.
        ({"peer": str(peer["node_id"]), "name": str(peer["name"])}, peer)
        for peer in relay["peers"]
    ]
    for name, field, about in (
        ("dreamer_relayed_peer_bytes", "month_bytes", "Bytes over relays with a peer this month."),
        ("dreamer_relay_left_bytes", "left_bytes", "Bytes that may still pass with a peer."),
    ):
        yield Metric(name, "gauge", about, [(labels, peer[field]) for labels, peer in peers])


def _gauge(name: str, about: str, value: float) -> Metric:
    return Metric(name, "gauge", about, [({}, value)])
