"""Drawn: the share of pulls that are whole, over the time since they began."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dreamer.simulations.report import quantities
from dreamer.simulations.report.canvas import INK, SERIES_COLOURS
from dreamer.simulations.report.pulls import finished_s, honest, pulls
from dreamer.simulations.report.result import RunResult
from dreamer.simulations.report.thinning import evenly

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_POINTS_MAX = 400
_MODELS_MAX = 5
_BROKEN_LINES = ("--", (0, (1.5, 1.5)))


@dataclass(frozen=True)
class Curve:
    """Times of finished pulls, shortest first, out of ``wanted`` pulls."""

    label: str
    times_s: tuple[float, ...]
    wanted: int

    @classmethod
    def of(cls, label: str, result: RunResult, model: str | None = None) -> Curve:
        """Return the curve of one model's pulls, or of all."""
        some = [one for one in pulls(honest(result)) if model is None or one.model == model]
        return cls(label, tuple(finished_s(some)), len(some))


def curves(result: RunResult) -> list[Curve]:
    """Return a curve for each model, or one for all if they are too many to be told apart."""
    models = list(dict.fromkeys(one.model for one in pulls(honest(result))))
    if 1 < len(models) <= _MODELS_MAX:
        return [Curve.of(model, result, model) for model in models]
    return [Curve.of("all pulls", result)]


def draw_completion(axes: Axes, curves: Sequence[Curve], bounds: Mapping[str, float]) -> None:
    """Draw curves, and lower bounds by what to call them (seconds; 0: none).

    One bound is everybody's; of several, each is that of the curve in its place.
    """
    longest = max(
        [*bounds.values(), *(one.times_s[-1] for one in curves if one.times_s)], default=0
    )
    unit, second = quantities.time_unit(longest)
    for at, (curve, colour) in enumerate(zip(curves, SERIES_COLOURS, strict=False)):
        # Each is thinner than the one before it: where they coincide, both are seen.
        width = max(1.0, 3.4 - 0.7 * at) if len(curves) > 1 else 2.0
        _curve(axes, curve, colour, width, (second, 1.04 * longest))
    _bounds(axes, bounds, second)
    axes.set_xlim(0, (1.04 * longest or 1) / second)
    axes.set_ylim(0, 103)
    axes.set_xlabel(f"time since the pull began ({unit})")
    axes.set_ylabel("pulls that are whole (%)")
    # Below: inside, it would lie on the curve wherever that happens to be steep.
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.17), ncols=2)


def _bounds(axes: Axes, bounds: Mapping[str, float], second: float) -> None:
    colours = SERIES_COLOURS if len(bounds) > 1 else (INK,)
    for (name, bound), colour, dashes in zip(bounds.items(), colours, _BROKEN_LINES, strict=False):
        if bound > 0:
            label = f"{name}: {quantities.duration(bound)}"
            axes.axvline(bound / second, color=colour, linestyle=dashes, linewidth=1.2, label=label)


def _curve(axes: Axes, curve: Curve, colour: str, width: float, axis: tuple[float, float]) -> None:
    """Draw one; ``axis``: the seconds in its unit, and the seconds at its end."""
    second, until_s = axis
    count = len(curve.times_s)
    kept = evenly(range(count), _POINTS_MAX)
    x = [0.0, *(curve.times_s[rank] / second for rank in kept), until_s / second]
    y = [0.0, *(100 * (rank + 1) / curve.wanted for rank in kept)]
    label = f"{curve.label}: {count:,} of {curve.wanted:,}"
    axes.step(x, [*y, y[-1]], where="post", color=colour, linewidth=width, label=label)
