"""Both studies of capacity as tables for a terminal."""

from __future__ import annotations

from rich.table import Table
from rich.text import Text

from dreamer.simulations.capacity.curve import CapacityResult
from dreamer.simulations.capacity.day import Account, OffloadResult
from dreamer.simulations.report import quantities


def capacity_table(result: CapacityResult) -> Table:
    """Return queue, wait and loss by number of users."""
    headers = ("users", "load", "lost %", "p50 ms", "p99 ms", "queue", "refusals/frame", "holds")
    table = _table(_capacity_title(result), *headers)
    for point in result.points:
        table.add_row(
            str(point.users),
            f"{point.load:.3f}",
            point.loss_share.shown(100, 2),
            point.wait_p50_s.shown(1000),
            point.wait_p99_s.shown(1000),
            point.queue_mean.shown(),
            point.refusals_per_frame.shown(digits=3),
            "yes" if point.holds else "no",
        )
    table.caption = _verdict(result)
    return table


def _capacity_title(result: CapacityResult) -> str:
    pool, users = result.pool, result.users
    return (
        f"{users.frames_s:g} frames/s at {users.duty:.0%} duty on {pool.frames_s:,.0f} frames/s "
        f"({_nodes(pool.nodes)}); {len(result.seeds)} seeds of {result.seconds:g} s, ± 95%"
    )


def _nodes(count: int) -> str:
    return "one queue" if count == 1 else f"{count} nodes, nearest first"


def _verdict(result: CapacityResult) -> str:
    criterion = result.criterion
    wanted = f"p99 wait ≤ {criterion.wait_p99_s * 1000:g} ms and loss ≤ {criterion.loss_share:.0%}"
    if result.breaks_at_users is None:
        return f"Holds means {wanted}: no place between these numbers of users where all seeds stop"
    return f"Holds means {wanted}: up to {result.breaks_at_users.shown(digits=0)} users"


def offload_tables(result: OffloadResult) -> list[Table]:
    """Return the day by hour, and what another number of GPU nodes changes."""
    return [_by_hour(result), _by_gpus(result)]


def _by_hour(result: OffloadResult) -> Table:
    spec = result.spec
    table = _table(
        f"{spec.laptops.count} laptops, {spec.gpus.count} GPU nodes, seed {result.seed}: seconds "
        "to the first word",
        "hour", "requests", "here p50", "p99", "GPU p50", "p95", "p99", "gave up", "refused",
        "GPUs busy", "busiest",
    )  # fmt: skip
    for hour in result.hours:
        account = hour.account
        table.add_row(
            f"{hour.hour:02}",
            f"{account.requests:,}",
            *_seconds(account.local.p50_s, account.local.p99_s),
            *_seconds(account.offloaded.p50_s, account.offloaded.p95_s, account.offloaded.p99_s),
            str(account.gave_up),
            str(account.refused),
            quantities.share(hour.utilisation),
            quantities.share(hour.busiest),
        )
    return table


def _by_gpus(result: OffloadResult) -> Table:
    table = _table(
        "The same day with another number of GPU nodes (offloaded requests)",
        "GPU nodes", "day p50", "p95", "p99", "busiest hour p50", "p95", "p99", "gave up",
        "refused", "busy then",
    )  # fmt: skip
    for variant in result.variants:
        table.add_row(
            str(variant.gpus),
            *_offloaded(variant.day),
            *_offloaded(variant.peak),
            str(variant.day.gave_up),
            str(variant.day.refused),
            quantities.share(variant.utilisation),
        )
    return table


def _offloaded(account: Account) -> list[str]:
    latency = account.offloaded
    return _seconds(latency.p50_s, latency.p95_s, latency.p99_s)


def _seconds(*values: float) -> list[str]:
    return [f"{value:.2f}" for value in values]


def _table(title: str, *headers: str) -> Table:
    table = Table(
        title=Text(title), title_justify="left", caption_justify="left", box=None, pad_edge=False
    )
    for header in headers:
        table.add_column(Text(header), justify="right", no_wrap=True)
    return table
