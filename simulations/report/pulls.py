"""Who pulled what, and how long it took: by pull, by group, and the slowest."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from dreamer.simulations.report.result import NodeResult, RunResult


@dataclass(frozen=True)
class Pull:
    """One model that one machine wanted. ``seconds``: from its beginning, None if it is not whole;
    ``why`` not, if the planner said."""

    node: NodeResult
    model: str
    seconds: float | None
    why: str = ""


@dataclass(frozen=True)
class GroupSummary:
    """Machines of one group together; times are None where none of its pulls finished."""

    name: str
    machines: int
    finished: int
    wanted: int
    median_s: float | None
    last_s: float | None
    up_bytes: int
    down_bytes: int


def pulls(nodes: Sequence[NodeResult]) -> Iterator[Pull]:
    """Yield every pull of these machines, whole or not."""
    for node in nodes:
        for model, seconds in node.pulled_s.items():
            yield Pull(node, model, seconds)
        for model, why in node.unfinished.items():
            yield Pull(node, model, None, why)


def honest(result: RunResult) -> list[NodeResult]:
    """Return the machines whose pulls count: what misbehaving ones get is nobody's concern."""
    return [node for node in result.each if node.honest]


def finished_s(some: Sequence[Pull]) -> list[float]:
    """Return the times of those that are whole, shortest first."""
    return sorted(pull.seconds for pull in some if pull.seconds is not None)


def groups(result: RunResult) -> list[GroupSummary]:
    """Return a summary for each group, in the scenario's order."""
    members: dict[str, list[NodeResult]] = {}
    for node in result.each:
        members.setdefault(node.group, []).append(node)
    return [_summary(name, nodes) for name, nodes in members.items()]


def _summary(name: str, nodes: list[NodeResult]) -> GroupSummary:
    every = list(pulls(nodes))
    times = finished_s(every)
    return GroupSummary(
        name=name,
        machines=len(nodes),
        finished=len(times),
        wanted=len(every),
        median_s=statistics.median(times) if times else None,
        last_s=times[-1] if times else None,
        up_bytes=sum(node.up_bytes for node in nodes),
        down_bytes=sum(node.down_bytes for node in nodes),
    )


def slowest(result: RunResult, count: int = 10) -> list[Pull]:
    """Return the ``count`` slowest pulls of honest machines; what never finished comes first."""

    def rank(pull: Pull) -> tuple[float, bool, str, str]:
        seconds = math.inf if pull.seconds is None else pull.seconds
        # Of those that never finished, machines that stayed are the ones to look at.
        return -seconds, not pull.node.stayed, pull.node.name, pull.model

    return sorted(pulls(honest(result)), key=rank)[:count]
