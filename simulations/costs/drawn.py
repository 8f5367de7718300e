"""The cost study as pictures: a bar for each way, and what moves the result (a tornado)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from dreamer.simulations.costs.sensitivity import Sensitivity
from dreamer.simulations.report.canvas import OTHER_COLOUR, SERIES_COLOURS
from dreamer.simulations.report.pictures import CostBar, Picture, cost_picture

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from dreamer.simulations.costs.study import CostResult

_BAR_HIGH = 0.6


def cost_bars(result: CostResult) -> list[CostBar]:
    """Return each way's egress beside what was expected of it."""
    return [
        CostBar(
            way.name,
            way.bill.egress_usd + way.bill.cross_region_usd,
            way.expected_egress_usd or None,
        )
        for way in result.ways
    ]


def cost_pictures(result: CostResult) -> list[Picture]:
    """Return the bars, and the tornado if assumptions were varied."""
    pictures = [cost_picture(cost_bars(result), "Egress of a month")]
    if result.sensitivity is not None:
        pictures.append(
            Picture(
                "sensitivity",
                "What moves the cost of a month with peers",
                "Each bar spans what a month with peers costs when one assumption is changed and "
                "all others stay; the line is the study's own. Numbers at the ends are the "
                "assumption's.",
                partial(_draw_tornado, found=result.sensitivity),
            )
        )
    return pictures


def _draw_tornado(axes: Axes, found: Sensitivity) -> None:
    for row, effect in enumerate(found.effects):
        ends = [
            (effect.low.peers_total_usd, effect.assumption.low, SERIES_COLOURS[0]),
            (effect.high.peers_total_usd, effect.assumption.high, SERIES_COLOURS[1]),
        ]
        for usd, value, colour in ends:
            from_usd, width = found.base.peers_total_usd, usd - found.base.peers_total_usd
            axes.barh(row, width, left=from_usd, height=_BAR_HIGH, color=colour)
            side = "left" if usd > from_usd else "right"
            axes.annotate(
                f"{value:g}", (usd, row), ha=side, va="center", fontsize=7.5,
                xytext=(3 if side == "left" else -3, 0), textcoords="offset points",
            )  # fmt: skip
    axes.axvline(found.base.peers_total_usd, color=OTHER_COLOUR)
    names = [effect.assumption.path.rpartition(".")[2] for effect in found.effects]
    axes.set_yticks(range(len(names)), labels=names)
    axes.invert_yaxis()
    axes.grid(visible=True, axis="x")
    axes.grid(visible=False, axis="y")
    # Room for the numbers at the ends.
    axes.margins(x=0.12)
    axes.set_xlabel("US dollars a month, with peers")
