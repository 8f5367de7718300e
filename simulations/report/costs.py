"""Drawn: what ways to bring models to machines cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dreamer.simulations.report import quantities
from dreamer.simulations.report.canvas import OTHER_COLOUR, SERIES_COLOURS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_BAR_HIGH = 0.38


@dataclass(frozen=True)
class CostBar:
    """What one way costs, in dollars; ``reference_usd``: what was expected of it, drawn beside."""

    label: str
    usd: float
    reference_usd: float | None = None


def draw_costs(axes: Axes, bars: Sequence[CostBar]) -> None:
    """Draw a bar for each way, from top to bottom, each with its amount."""
    rows = range(len(bars))
    references = [(row, one.reference_usd) for row, one in enumerate(bars)]
    beside = [(row, amount) for row, amount in references if amount is not None]
    shift = _BAR_HIGH / 2 if beside else 0.0
    simulated = [(row - shift, one.usd) for row, one in enumerate(bars)]
    _bars(axes, simulated, SERIES_COLOURS[0], "simulated")
    if beside:
        _bars(axes, [(row + shift, usd) for row, usd in beside], OTHER_COLOUR, "expected")
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=2)
    axes.set_yticks(list(rows), labels=[one.label for one in bars])
    axes.invert_yaxis()
    axes.grid(visible=True, axis="x")
    axes.grid(visible=False, axis="y")
    axes.set_xlabel("US dollars")
    # Room for the amounts at the ends of the bars.
    most = max((usd for _, usd in [*simulated, *beside]), default=0.0)
    axes.set_xlim(0, 1.18 * most or 1)


def _bars(axes: Axes, bars: Sequence[tuple[float, float]], colour: str, label: str) -> None:
    places, amounts = [place for place, _ in bars], [usd for _, usd in bars]
    drawn = axes.barh(places, amounts, height=_BAR_HIGH, color=colour, label=label)
    axes.bar_label(drawn, labels=[quantities.usd(usd) for usd in amounts], padding=4)
