"""Both studies of capacity as pictures, in the style of ``report.pictures``."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING

from dreamer.simulations.capacity.curve import CapacityResult
from dreamer.simulations.capacity.day import OffloadResult
from dreamer.simulations.capacity.estimate import Estimate
from dreamer.simulations.report.canvas import OTHER_COLOUR, SERIES_COLOURS
from dreamer.simulations.report.pictures import Picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def capacity_pictures(result: CapacityResult) -> list[Picture]:
    """Return wait and loss against the number of users."""
    return [
        Picture(
            "capacity-wait",
            f"How long frames wait on {result.pool.nodes} × "
            f"{result.pool.frames_s / result.pool.nodes:,.0f} frames/s",
            "99 of 100 frames wait no longer than this; the band is what seeds leave open (95%). "
            "Dashed: what is allowed.",
            partial(_draw_wait, result=result),
        ),
        Picture(
            "capacity-loss",
            "Frames that no node took",
            "A frame is lost when every node has as many waiting as it takes. Dashed: what is "
            "allowed; the dotted line is where users offer just what can be served.",
            partial(_draw_loss, result=result),
        ),
    ]


def _draw_wait(axes: Axes, result: CapacityResult) -> None:
    users = [point.users for point in result.points]
    _band(axes, users, [point.wait_p99_s for point in result.points], 1000)
    _limits(axes, result, result.criterion.wait_p99_s * 1000)
    axes.set_ylabel("p99 wait, ms")


def _draw_loss(axes: Axes, result: CapacityResult) -> None:
    users = [point.users for point in result.points]
    _band(axes, users, [point.loss_share for point in result.points], 100)
    _limits(axes, result, result.criterion.loss_share * 100)
    axes.set_ylabel("frames lost, %")


def _band(axes: Axes, users: Sequence[int], estimates: Sequence[Estimate], scale: float) -> None:
    low = [max(0.0, (one.mean - one.within) * scale) for one in estimates]
    high = [(one.mean + one.within) * scale for one in estimates]
    axes.fill_between(users, low, high, color=SERIES_COLOURS[0], alpha=0.2, linewidth=0)
    axes.plot(users, [one.mean * scale for one in estimates], color=SERIES_COLOURS[0])
    axes.set_ylim(bottom=0)
    axes.set_xlabel("users")


def _limits(axes: Axes, result: CapacityResult, allowed: float) -> None:
    axes.axhline(allowed, color=OTHER_COLOUR, linestyle="--")
    full = result.pool.frames_s / (result.users.frames_s * result.users.duty)
    axes.axvline(full, color=OTHER_COLOUR, linestyle=":")


def offload_pictures(result: OffloadResult) -> list[Picture]:
    """Return latency and load by hour."""
    return [
        Picture(
            "offload-latency",
            "Seconds to the first word of offloaded requests",
            "Each line is a percentile of the requests asked in that hour.",
            partial(_draw_latency, result=result),
        ),
        Picture(
            "offload-load",
            "How busy the GPU nodes were",
            "The share of each hour in which a node generated: all nodes on the average, and the "
            "busiest of them. Far apart means that some are asked while others have time.",
            partial(_draw_load, result=result),
        ),
    ]


def _draw_latency(axes: Axes, result: OffloadResult) -> None:
    lines = {
        "p50": [hour.account.offloaded.p50_s for hour in result.hours],
        "p95": [hour.account.offloaded.p95_s for hour in result.hours],
        "p99": [hour.account.offloaded.p99_s for hour in result.hours],
    }
    _by_hour(axes, result, lines, "seconds")


def _draw_load(axes: Axes, result: OffloadResult) -> None:
    lines = {
        "all nodes": [hour.utilisation * 100 for hour in result.hours],
        "busiest node": [hour.busiest * 100 for hour in result.hours],
    }
    _by_hour(axes, result, lines, "% of the hour")


def _by_hour(axes: Axes, result: OffloadResult, lines: dict[str, list[float]], unit: str) -> None:
    hours = [hour.hour for hour in result.hours]
    for (label, values), colour in zip(lines.items(), SERIES_COLOURS, strict=False):
        axes.plot(hours, values, color=colour, label=label, drawstyle="steps-post")
    axes.set_ylim(bottom=0)
    axes.set_xlabel("hour of the day")
    axes.set_ylabel(unit)
    axes.legend()
