"""A pool of GPUs that serves frames: who is asked first, and what a node takes.

A node is asked as a daemon asks its peers: in the order in which ``protocol.offload.plan`` puts
them, one after the other until one takes it (``daemon.offload.running``). A node takes it unless
``INFERENCE_QUEUE_MAX`` requests are under way or waiting there, or
``OFFLOAD_REQUESTS_MAX_PER_LINK`` of that user (``daemon.offload.serving``), and serves in order. A
daemon counts only those that wait (``daemon.inference.pool``): one more, of hundreds.
"""

from __future__ import annotations

from dataclasses import dataclass

from dreamer.protocol.ids import NodeId
from dreamer.protocol.inference_limits import (
    INFERENCE_QUEUE_MAX,
)
from dreamer.protocol.offload import Runner, plan
from dreamer.protocol.offload_limits import OFFLOAD_REQUESTS_MAX_PER_LINK
from dreamer.simulations.capacity.users import stream


@dataclass(frozen=True)
class GpuPool:
    """``frames_s`` in all, shared out equally over ``nodes``; round trips to them are drawn
    between ``rtt_min_s`` and ``rtt_max_s`` for each user and node."""

    frames_s: float = 4800.0
    nodes: int = 1
    rtt_min_s: float = 0.0
    rtt_max_s: float = 0.0
    queue_max: int = INFERENCE_QUEUE_MAX
    per_user_max: int = OFFLOAD_REQUESTS_MAX_PER_LINK

    @property
    def service_s(self) -> float:
        """How long one node is at one frame."""
        return self.nodes / self.frames_s


@dataclass(frozen=True)
class Stop:
    """A node on a user's list, and how long a message takes there (one way)."""

    node: int
    one_way_s: float


def route(pool: GpuPool, user: int, seed: int) -> tuple[Stop, ...]:
    """Return the nodes that a user's frames are offered to, in order: the daemon's own plan."""
    rng = stream(seed, user, "rtt")
    rtts = [rng.uniform(pool.rtt_min_s, pool.rtt_max_s) for _ in range(pool.nodes)]
    runners = [Runner(_id(node), rtt_s) for node, rtt_s in enumerate(rtts)]
    chosen = plan("auto", here=None, peers=runners, model="frames")
    numbers = [int.from_bytes(choice.node, "big") for choice in chosen.choices]
    return tuple(Stop(node, rtts[node] / 2) for node in numbers)


def _id(node: int) -> NodeId:
    return NodeId(node.to_bytes(32, "big"))
