"""What a node counts, in Prometheus' text exposition format (version 0.0.4)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Labels = Mapping[str, str]


@dataclass(frozen=True)
class Metric:
    """One metric and its samples; a counter's name ends in ``_total``, a unit stands before."""

    name: str
    kind: Literal["counter", "gauge"]
    about: str
    samples: Sequence[tuple[Labels, float]]


@dataclass(frozen=True)
class Histogram:
    """Observations in seconds: ``counts[i]`` at most ``bounds[i]``, the last the rest."""

    name: str
    about: str
    bounds: Sequence[float]
    counts: Sequence[int]
    total: float = field(default=0.0)


def render(metrics: Iterable[Metric | Histogram]) -> str:
    """Return the text that a Prometheus server reads."""
    lines: list[str] = []
    for metric in metrics:
        kind = "histogram" if isinstance(metric, Histogram) else metric.kind
        lines += [f"# HELP {metric.name} {metric.about}", f"# TYPE {metric.name} {kind}"]
        lines += _buckets(metric) if isinstance(metric, Histogram) else _samples(metric)
    return "".join(f"{line}\n" for line in lines)


def _samples(metric: Metric) -> list[str]:
    return [f"{metric.name}{_labels(labels)} {_number(value)}" for labels, value in metric.samples]


def _buckets(histogram: Histogram) -> list[str]:
    lines: list[str] = []
    below = 0
    # Each bucket counts the smaller ones too.
    for bound, count in zip((*histogram.bounds, float("inf")), histogram.counts, strict=True):
        below += count
        edge = "+Inf" if bound == float("inf") else _number(bound)
        lines.append(f'{histogram.name}_bucket{{le="{edge}"}} {below}')
    lines.append(f"{histogram.name}_sum {_number(histogram.total)}")
    lines.append(f"{histogram.name}_count {below}")
    return lines


def _labels(labels: Labels) -> str:
    if not labels:
        return ""
    # Names of members are their own word: quotes and line ends are escaped.
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items()) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else repr(value)
