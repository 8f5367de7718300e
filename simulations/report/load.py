"""Drawn: how much each machine sent and received."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dreamer.simulations.report import quantities
from dreamer.simulations.report.canvas import INK
from dreamer.simulations.report.result import NodeResult
from dreamer.simulations.report.thinning import evenly

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLUMNS_MAX = 300
_UP_COLOUR, _DOWN_COLOUR = "#0072b2", "#e69f00"


def draw_load(axes: Axes, nodes: Sequence[NodeResult]) -> None:
    """Draw bytes sent above the line and bytes received below it, each sorted by itself."""
    from matplotlib.ticker import MaxNLocator

    up = sorted((node.up_bytes for node in nodes), reverse=True)
    down = sorted((node.down_bytes for node in nodes), reverse=True)
    unit, divisor = quantities.size_unit(max([*up[:1], *down[:1]], default=0))
    _columns(axes, [count / divisor for count in up], _UP_COLOUR, _label("sent", up))
    _columns(axes, [-count / divisor for count in down], _DOWN_COLOUR, _label("received", down))
    axes.axhline(0, color=INK, linewidth=0.8)
    axes.margins(x=0.01)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel(f"machines, those with most first ({len(nodes):,})")
    axes.set_ylabel(f"received | sent ({unit})")
    # Both ways count from the line upwards and downwards: no bytes are less than none.
    axes.yaxis.set_major_formatter(lambda value, _: f"{abs(value):g}")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=1)


def _label(what: str, counts: Sequence[int]) -> str:
    mean = sum(counts) / len(counts) if counts else 0.0
    most = quantities.size(max(counts, default=0))
    return f"{what}: {quantities.size(mean)} on average, {most} at most"


def _columns(axes: Axes, heights: Sequence[float], colour: str, label: str) -> None:
    """Draw a column for each machine; of thousands, for some hundred of them."""
    kept = evenly(range(len(heights)), _COLUMNS_MAX)
    edges = [rank + 0.5 for rank in kept] + [len(heights) + 0.5]
    if not kept:
        edges = [0.5, 1.5]
    values = [heights[rank] for rank in kept] or [0.0]
    axes.stairs(values, edges, fill=True, color=colour, linewidth=0, label=label)
