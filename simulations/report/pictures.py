"""The pictures of a run: what each shows, in which words it is explained, and how it is drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING

from dreamer.simulations.report import canvas
from dreamer.simulations.report.completion import Curve, curves, draw_completion
from dreamer.simulations.report.costs import CostBar, draw_costs
from dreamer.simulations.report.lanes import draw_lanes, draw_origin, draw_relay
from dreamer.simulations.report.load import draw_load
from dreamer.simulations.report.result import RunResult
from dreamer.simulations.report.svg import Drawing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

__all__ = ["CostBar", "Picture", "cost_picture", "overlaid_completion", "pictures"]


@dataclass(frozen=True)
class Picture:
    """One picture. ``name`` is that of its files; ``reading`` a sentence that says how to read it.

    ``drawing``, ``svg`` and ``png`` raise InputError where matplotlib is missing.
    """

    name: str
    title: str
    reading: str
    draw: Callable[[Axes], None]

    @cached_property
    def drawing(self) -> Drawing:
        """The picture as SVG, drawn once: for a file and for the page."""
        return canvas.as_svg(self.draw, self.title)

    def svg(self) -> str:
        """Return it as an SVG file's text."""
        return self.drawing.file

    def png(self) -> bytes:
        """Return it as a PNG file's bytes."""
        return canvas.as_png(self.draw, self.title)


def pictures(result: RunResult, costs: Sequence[CostBar] = ()) -> list[Picture]:
    """Return the pictures that say something of this run: none of relays that nobody used."""
    shown = [_completion(result), _lanes(result)]
    if result.origin.bytes:
        shown.append(_origin(result))
    if result.relay.bytes or result.relay.budget_bytes:
        shown.append(_relay(result))
    shown.append(_load(result))
    if costs:
        shown.append(cost_picture(costs))
    return shown


def _completion(result: RunResult) -> Picture:
    return Picture(
        "completion",
        "Completed pulls",
        "At each moment since a pull began: the share of all pulls that were whole. The last one "
        "can't be whole left of the dashed line, the lower bound: the nearer to it the curve "
        "reaches the top, the better. A curve that never does leaves pulls unfinished.",
        partial(draw_completion, curves=curves(result), bounds={"lower bound": result.bound_s}),
    )


def overlaid_completion(a: RunResult, b: RunResult) -> Picture:
    """Return the completion of two runs, one over the other, each with its lower bound."""
    return Picture(
        "completion",
        "Completed pulls of A and B",
        "The share of all pulls that were whole at each moment since they began; the run whose "
        "curve is further left is faster. Dashed: each run's own lower bound.",
        partial(
            draw_completion,
            curves=[Curve.of("A", a), Curve.of("B", b)],
            bounds={"lower bound of A": a.bound_s, "lower bound of B": b.bound_s},
        ),
    )


def _lanes(result: RunResult) -> Picture:
    return Picture(
        "lanes",
        "What arrived, by lane",
        "Areas are stacked: the top is all that arrived at once on all machines together. Blue "
        "and green came from peers; orange passed a relay, red came from the origin and is paid "
        "for.",
        partial(draw_lanes, traffic=result.traffic),
    )


def _origin(result: RunResult) -> Picture:
    return Picture(
        "origin",
        "Copies taken from the origin",
        "All that the origin has given so far, in copies of the models pulled. One copy is the "
        "least if no machine held the model; a line that still rises late means that peers could "
        "not give what was wanted.",
        partial(draw_origin, result=result),
    )


def _relay(result: RunResult) -> Picture:
    return Picture(
        "relay",
        "What passed relays",
        "Bytes through TURN relays so far, beside the dashed budget of all machines together, "
        "which they may never pass.",
        partial(draw_relay, result=result),
    )


def _load(result: RunResult) -> Picture:
    return Picture(
        "load",
        "Load by machine",
        "Above the line what machines sent, below it what they received, each sorted by itself. "
        "A flat top means that all give alike; a spike on the left, that a few carry the rest.",
        partial(draw_load, nodes=result.each),
    )


def cost_picture(bars: Sequence[CostBar], title: str = "Cost of a month") -> Picture:
    """Return bars of what ways to get models cost, beside the figures expected of them."""
    return Picture(
        "costs",
        title,
        "Each bar is one way to bring models to the machines, priced from its simulated traffic. "
        "Grey: what was expected of it.",
        partial(draw_costs, bars=tuple(bars)),
    )
