"""Makes the machines of a scenario, group by group."""

from __future__ import annotations

from dataclasses import replace
from hashlib import blake2b
from random import Random
from typing import TYPE_CHECKING

from dreamer.protocol.ids import NodeId
from dreamer.simulations.engine.node import MB, Node
from dreamer.simulations.engine.origin import OriginRequests
from dreamer.simulations.scenario.model import Group

if TYPE_CHECKING:
    from dreamer.simulations.engine.world import World

_BYTES_PER_MBIT = 125_000.0
SLOW = 0.1
"""The rates of a slow machine, as a share of its group's."""


def populate(world: World) -> list[Node]:
    """Return every machine of a run; none of them is there yet."""
    rng = Random(f"{world.seed}/population")
    nodes: list[Node] = []
    for group in world.scenario.groups:
        for number in range(group.count):
            slow = group.slow_share > 0 and rng.random() < group.slow_share
            nodes.append(_machine(world, len(nodes), f"{group.name}-{number}", group, slow=slow))
    return nodes


def _machine(world: World, index: int, name: str, group: Group, *, slow: bool) -> Node:
    if slow:
        group = replace(group, up_mbit=group.up_mbit * SLOW, down_mbit=group.down_mbit * SLOW)
    node_id = NodeId(blake2b(f"{world.seed}/{name}".encode(), digest_size=32).digest())
    node = Node(world, index, name, node_id, group)
    flows = world.flows
    disk = (flows.pipe(group.disk_mb_s * MB),) if group.disk_mb_s else ()
    node.pipes_up = (*disk, flows.pipe(group.up_mbit * _BYTES_PER_MBIT))
    node.pipes_down = (flows.pipe(group.down_mbit * _BYTES_PER_MBIT), *disk)
    node.origin_requests = OriginRequests(world, (), 0.0)
    if world.origin is not None:
        way = (world.origin.pipe, *world.lines.origin_pipes(node), *node.pipes_down)
        node.origin_requests = OriginRequests(world, way, world.lines.origin_latency_s(node))
    for held in group.holds:
        node.held[held] = world.models[held].everything
    return node
