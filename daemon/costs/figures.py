"""From usages and prices to what a surface shows."""

from __future__ import annotations

from dreamer.daemon.surfaces.costs import CostFigures, LaneCost
from dreamer.protocol.costs import (
    CACHE,
    GB,
    LANES,
    ORIGIN,
    PEER_LANES,
    RELAY,
    USES,
    WANTED,
    Entry,
    Prices,
    Usage,
    What,
    costs_of,
    peer_bytes,
)


def figures_of(usage: Usage, prices: Prices) -> CostFigures:
    """Return a usage with what it cost and would have."""
    costs, paid = costs_of(usage, prices), costs_of(usage, prices).paid
    return CostFigures(
        uses=usage.get(USES, 0),
        wanted_bytes=usage.get(WANTED, 0),
        cache_bytes=usage.get(Entry(CACHE, What.DOWN), 0),
        peer_bytes=peer_bytes(usage),
        origin_bytes=usage.get(Entry(ORIGIN, What.DOWN), 0),
        uploaded_bytes=usage.get(Entry(ORIGIN, What.UP), 0),
        relay_paid_bytes=usage.get(Entry(RELAY, What.PAID), 0),
        gets=usage.get(Entry(ORIGIN, What.GETS), 0),
        puts=usage.get(Entry(ORIGIN, What.PUTS), 0),
        lists=usage.get(Entry(ORIGIN, What.LISTS), 0),
        cost=paid.total,
        egress_cost=paid.egress,
        requests_cost=paid.requests,
        turn_cost=paid.turn,
        peers_cost=paid.peers,
        without_peers=costs.without_peers.total,
        without_cache=costs.without_cache.total,
        without_both=costs.without_both.total,
        saved=costs.saved,
    )


def lanes_of(usage: Usage, prices: Prices) -> tuple[LaneCost, ...]:
    """Return the lanes that moved anything, the cheapest first; together they cost all there is."""
    paid = costs_of(usage, prices).paid
    own = {ORIGIN: paid.egress + paid.requests, RELAY: paid.turn}
    found = []
    for lane in LANES:
        down, up = (usage.get(Entry(lane, what), 0) for what in (What.DOWN, What.UP))
        peers = down / GB * prices.peer_gb if lane in PEER_LANES else 0.0
        cost = own.get(lane, 0.0) + peers
        if down or up or cost:
            found.append(LaneCost(lane, down, up, cost))
    return tuple(found)
