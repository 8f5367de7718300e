"""Who of a large crowd divides among themselves what only the origin or whole members have.

A tracker names at most some fifty of a thousand downloaders at a time, others to each of them. If
each divided the blocks among those it has heard of, most blocks would be fetched twenty times. So
the same few are named to everybody: the downloaders whose hash with the swarm is lowest. Nobody
chooses his own hash cheaply (a node id is a key that an admin admits), and who comes or goes
changes one place of the committee at most.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable

from blake3 import blake3

from dreamer.protocol.ids import NodeId
from dreamer.protocol.limits import CROWD_COMMITTEE

RANK_BYTES = 16


def rank(swarm: bytes, node: NodeId) -> bytes:
    """Return what orders the downloaders of a swarm: whose is lowest is in its committee."""
    return blake3(swarm + node).digest(length=RANK_BYTES)


def committee(swarm: bytes, fetching: Iterable[NodeId]) -> list[NodeId]:
    """Return the committee of those that fetch a model, at most ``CROWD_COMMITTEE`` of them."""
    ranked = heapq.nsmallest(CROWD_COMMITTEE, ((rank(swarm, node), node) for node in fetching))
    return [node for _, node in ranked]
