"""Drawn over the time of a run: what came by each lane, from the origin, and through relays."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

from dreamer.simulations.report import quantities
from dreamer.simulations.report.canvas import INK, LANE_COLOURS, OTHER_COLOUR
from dreamer.simulations.report.measures import lane_totals
from dreamer.simulations.report.result import RunResult, Traffic
from dreamer.simulations.report.thinning import binned, evenly, used, width_for

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Blocks count when they are whole: in narrower bins, a few large ones make a picture of spikes.
_BINS_MAX = 100
_POINTS_MAX = 400


def draw_lanes(axes: Axes, traffic: Traffic) -> None:
    """Draw the rate of arrival by lane, stacked."""
    totals = {lane: total for lane, total in lane_totals(traffic).items() if total}
    steps = _steps(traffic)
    width = width_for(steps, _BINS_MAX)
    stack = {lane: binned(traffic.by_lane[lane][:steps], width) for lane in totals}
    whole = [sum(column) for column in zip(*stack.values(), strict=True)]
    bin_s = width * traffic.step_s
    unit, bytes_s = quantities.rate_unit(max(whole, default=0) / bin_s)
    second = _time_axis(axes, steps * traffic.step_s)
    edges = [at * bin_s / second for at in range(len(whole) + 1)]
    below = [0.0] * len(whole)
    for lane, counts in stack.items():
        top = [low + count / bin_s / bytes_s for low, count in zip(below, counts, strict=True)]
        _area(axes, edges, below, top, lane, totals[lane])
        below = top
    axes.set_ylabel(f"arriving ({unit})")
    axes.set_ylim(bottom=0)
    _legend(axes, bool(stack))


def _area(
    axes: Axes,
    edges: Sequence[float],
    below: Sequence[float],
    top: Sequence[float],
    lane: str,
    total: int,
) -> None:
    axes.fill_between(
        edges,
        # As a step: the last bin has its width too.
        [*below, below[-1]],
        [*top, top[-1]],
        step="post",
        color=LANE_COLOURS.get(lane, OTHER_COLOUR),
        linewidth=0,
        label=f"{lane}: {quantities.size(total)}",
    )


def draw_origin(axes: Axes, result: RunResult) -> None:
    """Draw the copies that the origin has given so far."""
    traffic, origin = result.traffic, result.origin
    steps = _steps(traffic)
    so_far = list(accumulate(traffic.by_lane.get("origin", [])[:steps]))
    # Copies of what was pulled: how large that is, follows from both totals.
    copies = [count * origin.copies / origin.bytes if origin.bytes else 0.0 for count in so_far]
    colour = LANE_COLOURS["origin"]
    _so_far(axes, traffic, copies, colour, f"{origin.copies:.3f} copies in the end")
    axes.set_ylabel("copies so far")
    axes.axhline(1, color=INK, linestyle="--", linewidth=1.2, label="one copy")
    axes.set_ylim(0, 1.08 * max(1.0, origin.copies, max(copies, default=0.0)))
    _legend(axes)


def draw_relay(axes: Axes, result: RunResult) -> None:
    """Draw what has passed relays so far, beside the budget."""
    traffic, relay = result.traffic, result.relay
    highest = max(relay.bytes, relay.budget_bytes, 1)
    unit, divisor = quantities.size_unit(highest)
    so_far = [count / divisor for count in relay.over_time[: _steps(traffic)]]
    label = f"through relays: {quantities.size(relay.bytes)}"
    _so_far(axes, traffic, so_far, LANE_COLOURS["relay"], label)
    if relay.budget_bytes:
        budget = f"budget: {quantities.size(relay.budget_bytes)}"
        height = relay.budget_bytes / divisor
        axes.axhline(height, color=INK, linestyle="--", linewidth=1.2, label=budget)
    axes.set_ylabel(f"bytes so far ({unit})")
    axes.set_ylim(0, 1.08 * highest / divisor)
    _legend(axes)


def _so_far(axes: Axes, traffic: Traffic, values: Sequence[float], colour: str, label: str) -> None:
    """Draw a sum that only grows; each value is that at the end of its step."""
    second = _time_axis(axes, _steps(traffic) * traffic.step_s)
    ends = [at * traffic.step_s / second for at in range(len(values) + 1)]
    points = evenly(list(zip(ends, [0.0, *values], strict=True)), _POINTS_MAX)
    x, y = [at for at, _ in points], [value for _, value in points]
    axes.fill_between(x, y, color=colour, alpha=0.2, linewidth=0)
    axes.plot(x, y, color=colour, linewidth=2, label=label)


def _steps(traffic: Traffic) -> int:
    """Return how many steps there are until the last byte: a quiet end would squeeze the rest."""
    return max((used(counts) for counts in traffic.by_lane.values()), default=0)


def _time_axis(axes: Axes, longest_s: float) -> float:
    """Lay out the axis of virtual time; return its unit in seconds."""
    unit, second = quantities.time_unit(longest_s)
    axes.set_xlim(0, (longest_s or 1) / second)
    axes.set_xlabel(f"virtual time ({unit})")
    return second


def _legend(axes: Axes, anything: bool = True) -> None:
    if anything:
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=3)
    else:
        axes.text(0.5, 0.5, "nothing arrived", transform=axes.transAxes, ha="center")
