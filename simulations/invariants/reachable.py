"""What could have come to a machine in a stretch of time: who was there, and linkable, throughout.

Two machines can be linked or not by their groups alone: what they are behind, and which side of a
partition they are on. So groups are searched and not machines, of which there may be thousands.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dreamer.protocol.swarm.vocabulary import Lane
from dreamer.simulations.engine.reach import lane_between

if TYPE_CHECKING:
    from dreamer.simulations.engine.catalogue import Model
    from dreamer.simulations.engine.node import Node
    from dreamer.simulations.scenario.model import Group, Partition, Scenario, Span


@dataclass(frozen=True)
class Stretch:
    """From one moment to another, in virtual seconds."""

    from_s: float
    to_s: float

    def meets(self, span: Span) -> bool:
        """Return whether both have a moment in common."""
        return span.from_s < self.to_s and self.from_s < span.to_s


def reachable_blocks(
    node: Node, model: Model, others: Iterable[Node], scenario: Scenario, during: Stretch
) -> int:
    """Return the blocks that machines have which ``node`` could reach, by way of others too.

    ``others`` were there all the time, mean no harm, and hold or pull the model.
    """
    partitions = [one for one in scenario.partitions if during.meets(one.span)]
    groups: dict[str, list[Node]] = {}
    for other in others:
        if other is not node and other.group.uses_peers and node.group.uses_peers:
            groups.setdefault(other.group.name, []).append(other)
    reached: dict[str, None] = {}
    edge = [node.group]
    while edge:
        nearer, edge = edge, []
        for name, machines in groups.items():
            group = machines[0].group
            if name not in reached and any(
                _linkable(one, group, scenario, partitions) for one in nearer
            ):
                reached[name] = None
                edge.append(group)
    there = [node, *(machine for name in reached for machine in groups[name])]
    return _origin_blocks(there, model, scenario, partitions) | _held(there, model)


def _held(machines: Iterable[Node], model: Model) -> int:
    found = 0
    for machine in machines:
        found |= machine.held.get(model.name, 0)
    return found


def _linkable(
    one: Group, other: Group, scenario: Scenario, partitions: Iterable[Partition]
) -> bool:
    if any((one.name in cut.groups) is not (other.name in cut.groups) for cut in partitions):
        return False
    lane = lane_between(one.nat, other.nat, relay=bool(scenario.relays))
    if lane is Lane.RELAY:
        # A budget may be spent, and rightly so.
        return not (one.relay_budget_mib or other.relay_budget_mib)
    return lane is not None


def _origin_blocks(
    machines: Iterable[Node], model: Model, scenario: Scenario, partitions: Iterable[Partition]
) -> int:
    """Return what the origin gives those that pull the model, and they all others."""
    if scenario.origin is None or model.name not in scenario.origin.holds:
        return 0
    for machine in machines:
        cut = any(one.origin_too and machine.group.name in one.groups for one in partitions)
        if model.name in machine.pulls and machine.group.uses_origin and not cut:
            return model.everything
    return 0
