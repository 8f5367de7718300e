"""How machines find one another without the tracker: over the links that stand.

``protocol/link/gossip.py`` passes searches and signals on from neighbour to neighbour; what comes
of it is modelled here, not each message: who is within so many links is found, and can be called.
``Mesh`` is the daemon's own: it keeps a few links up for such times.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from dreamer.protocol.ids import NodeId
from dreamer.protocol.limits import (
    GOSSIP_MAX_HOPS,
    GOSSIP_SEEK_HOPS,
    LINKS_MESH_MIN,
    MESH_INTERVAL_S,
)
from dreamer.protocol.link.mesh import Mesh
from dreamer.protocol.swarm.holders import Found
from dreamer.protocol.tracker_limits import TRACKER_SEEK_MAX_NODES

if TYPE_CHECKING:
    from dreamer.simulations.engine.node import Node

SETTLED_LOOK_S = 10 * MESH_INTERVAL_S
"""A machine that has the links it wants is looked at so seldom: the answer is nearly always no."""


def around(node: Node, hops: int) -> Iterator[Node]:
    """Go through the machines that are at most so many links away, the nearest first."""
    seen: dict[NodeId, None] = {node.id: None}
    here = [node]
    for _ in range(hops):
        nearer, here = here, []
        for one in nearer:
            for end in one.links.values():
                peer = end.far.node
                if peer.id not in seen and end.up:
                    seen[peer.id] = None
                    here.append(peer)
                    yield peer


def heard_of(node: Node, model: str) -> Found:
    """Return who holds or fetches a model among those some links away."""
    found = [peer.id for peer in around(node, GOSSIP_SEEK_HOPS) if peer.concerned_with(model)]
    return Found(tuple(found[:TRACKER_SEEK_MAX_NODES]))


def can_signal(node: Node, other: Node) -> bool:
    """Return whether signals of one machine come to another over links."""
    return any(peer is other for peer in around(node, GOSSIP_MAX_HOPS))


class Neighbours:
    """Keeps a machine linked to some others, whatever it pulls."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._mesh = Mesh(LINKS_MESH_MIN, node.rng)
        self._look()

    def _look(self) -> None:
        node = self._node
        if not node.online:
            return
        world = node.world
        linked = list(node.by_peer)
        if world.reaches_tracker(node):
            present = [one.id for one in world.nodes if one.online and one is not node]
            coming_up = sum(peer in node.connecting for peer in self._mesh.called)
            if (peer := self._mesh.tick(linked, coming_up, present, node.now())) is not None:
                world.connect(node, peer)
        settled = len(linked) >= LINKS_MESH_MIN
        world.clock.after(SETTLED_LOOK_S if settled else MESH_INTERVAL_S, self._look)
