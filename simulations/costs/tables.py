"""The cost study as tables for a terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table
from rich.text import Text

from dreamer.simulations.costs.sensitivity import Outcome, Sensitivity
from dreamer.simulations.report import quantities

if TYPE_CHECKING:
    from dreamer.simulations.costs.study import CostResult, Way


def cost_tables(result: CostResult) -> list[Table]:
    """Return what each way moved and costs, and what moves the result if that was asked."""
    tables = [_bills(result), _traffic(result)]
    if result.sensitivity is not None:
        tables.append(_sensitivity(result.sensitivity))
    return tables


def _bills(result: CostResult) -> Table:
    people = f"{result.workload.users:,} people"
    if result.scale > 1:
        people += f" ({result.simulated_users:,} simulated)"
    table = _table(
        f"A month of {people}, {result.workload.catalogue.size_tb:g} TB of models, "
        f"seed {result.seed}: dollars",
        "egress", "asked for", "other region", "requests", "TURN", "total", "saved",
    )  # fmt: skip
    most = result.ways[0].total_usd
    for way in result.ways:
        bill = way.bill
        table.add_row(
            way.name,
            f"{bill.egress_usd:,.0f}",
            f"{way.expected_egress_usd:,.0f}" if way.expected_egress_usd else "",
            f"{bill.cross_region_usd:,.2f}",
            f"{bill.requests_usd:,.2f}",
            f"{bill.turn_usd:,.2f}",
            f"{bill.total_usd:,.2f}",
            quantities.share(1 - bill.total_usd / most) if most else "",
        )
    table.caption = (
        f"Nobody had what makes {quantities.usd(result.least_egress_usd)} of the egress with "
        f"peers. Besides, in each way: {quantities.usd(result.storage_usd)} of storage"
    )
    return table


def _traffic(result: CostResult) -> Table:
    table = _table(
        "What moved", "loads", "pulls", "own cache", "from peers", "relayed of it", "from S3",
        "GETs",
    )  # fmt: skip
    for way in result.ways:
        table.add_row(way.name, *_moved(way, result.scale))
    table.caption = (
        f"{result.swarms:,} swarms; {result.worlds:,} worlds run in {result.wall_s:.0f} s; "
        f"trace {result.trace_hash}"
    )
    return table


def _moved(way: Way, scale: float) -> list[str]:
    traffic = way.traffic
    sizes = (
        traffic.cached_bytes, traffic.peer_bytes, traffic.relay_bytes, traffic.origin_bytes,
    )  # fmt: skip
    counts = (traffic.loads * scale, traffic.pulls * scale)
    return [
        *(f"{count:,.0f}" for count in counts),
        *(quantities.size(size * scale) for size in sizes),
        f"{traffic.gets * scale:,.0f}",
    ]


def _sensitivity(found: Sensitivity) -> Table:
    table = _table(
        f"What moves the result (on {found.users:,} people, scaled up): dollars",
        "from", "to", "everything", "caches", "peers", "peers, all costs", "apart",
    )  # fmt: skip
    table.add_row("as the study has it", "", "", *_one(found.base), "")
    for effect in found.effects:
        one = effect.assumption
        low, high = effect.low, effect.high
        table.add_row(
            f"{one.path} ({one.meaning})",
            f"{one.low:g}",
            f"{one.high:g}",
            *(f"{a} … {b}" for a, b in zip(_one(low), _one(high), strict=True)),
            f"{effect.span_usd:,.0f}",
        )
    return table


def _one(outcome: Outcome) -> list[str]:
    values = (
        outcome.everything_usd, outcome.caches_usd, outcome.peers_usd, outcome.peers_total_usd,
    )  # fmt: skip
    return [f"{value:,.0f}" for value in values]


def _table(title: str, *headers: str) -> Table:
    table = Table(
        title=Text(title), title_justify="left", caption_justify="left", box=None, pad_edge=False
    )
    table.add_column("", style="bold")
    for header in headers:
        table.add_column(Text(header), justify="right", no_wrap=True)
    return table
