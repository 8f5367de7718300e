"""The cost study, run and written: what ``dreamer-sim costs`` does.

A result is plain values: ``asdict`` is its JSON.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from dreamer.simulations.costs.bill import Bill, Prices, Traffic, load_prices, price
from dreamer.simulations.costs.drawn import cost_pictures
from dreamer.simulations.costs.sensitivity import (
    Sensitivity,
    people_in,
    sample,
    scale,
    sensitivity,
)
from dreamer.simulations.costs.tables import cost_tables
from dreamer.simulations.costs.ways import three_ways
from dreamer.simulations.costs.workload import Workload, load_workload

__all__ = ["CostResult", "Way", "cost_tables", "run_study", "write_study"]

SENSITIVITY_USERS = 600


@dataclass(frozen=True)
class Way:
    """One way to bring models to machines: what moved in the rooms that were simulated, what that
    comes to for all people, and the egress that was expected of it (0: nothing was)."""

    name: str
    traffic: Traffic
    bill: Bill
    total_usd: float
    expected_egress_usd: float


@dataclass(frozen=True)
class CostResult:
    """A month. ``simulated_users`` of ``workload.users`` were simulated, and ``scale`` makes them
    all. For ``swarms`` of peers and all pulls without any, the engine ran ``worlds``; it all took
    ``wall_s``."""

    workload: Workload
    prices: Prices
    seed: int
    simulated_users: int
    scale: float
    ways: tuple[Way, ...]
    least_egress_usd: float
    """Of the way with peers: for what nobody had who was there, one copy each."""
    storage_usd: float
    swarms: int
    worlds: int
    wall_s: float
    trace_hash: str
    sensitivity: Sensitivity | None = None


def run_study(
    workload: Workload | None = None,
    prices: Prices | None = None,
    seed: int = 1,
    users: int = 0,
    with_sensitivity: bool = False,
    report: Callable[[str], None] = lambda line: None,
) -> CostResult:
    """Return a month of models, three ways.

    Args:
        users: simulate rooms of about so many people only, and scale up; 0: all of them.
        with_sensitivity: vary each assumption too, on ``SENSITIVITY_USERS`` of the people.
    """
    began = time.perf_counter()
    workload, prices = workload or load_workload(), prices or load_prices()
    rooms = sample(workload, users) if users else range(workload.rooms)
    factor = scale(workload, rooms)
    ways = three_ways(workload, rooms, seed, report)
    wall_s = time.perf_counter() - began
    varied = None
    if with_sensitivity:
        fewer = min(SENSITIVITY_USERS, people_in(workload, rooms))
        varied = sensitivity(workload, prices, seed, fewer, report)
    expected = prices.expected_egress_usd
    return CostResult(
        workload=workload,
        prices=prices,
        seed=seed,
        simulated_users=people_in(workload, rooms),
        scale=factor,
        ways=(
            _way("everything from S3", ways.everything, prices, factor, expected.everything),
            _way("with caches", ways.caches, prices, factor, expected.caches),
            _way("with peers", ways.peers, prices, factor, expected.peers),
        ),
        least_egress_usd=_egress_usd(price(ways.least, prices, factor)),
        storage_usd=workload.catalogue.size_tb * 1000 * prices.storage_gb_month,
        swarms=ways.swarms,
        worlds=ways.simulated,
        wall_s=wall_s,
        trace_hash=ways.trace_hash,
        sensitivity=varied,
    )


def _egress_usd(bill: Bill) -> float:
    return bill.egress_usd + bill.cross_region_usd


def _way(name: str, traffic: Traffic, prices: Prices, factor: float, expected: float) -> Way:
    bill = price(traffic, prices, factor)
    return Way(name, traffic, bill, bill.total_usd, expected)


def write_study(result: CostResult, folder: Path) -> None:
    """Write the study as JSON and pictures into a folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(asdict(result), indent=2) + "\n"
    (folder / "costs.json").write_text(text, encoding="utf-8")
    for picture in cost_pictures(result):
        (folder / f"{picture.name}.svg").write_text(picture.svg(), encoding="utf-8")
        (folder / f"{picture.name}.png").write_bytes(picture.png())
