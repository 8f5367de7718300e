"""How planners name machines."""

from __future__ import annotations

from dreamer.protocol.ids import NodeId
from dreamer.protocol.swarm.vocabulary import SourceId


def source_named(node: NodeId) -> SourceId:
    """Return how planners name a member: as ``daemon/sharing/peer_lanes.py`` does."""
    return SourceId(node.hex())
