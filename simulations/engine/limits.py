"""A machine's own limits of the rate: the daemon's buckets, read by the machine's clock."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dreamer.protocol.shaping.meters import Shaping
from dreamer.protocol.shaping.rates import Limits, Rates, rate_bytes_s
from dreamer.protocol.swarm.vocabulary import Lane

if TYPE_CHECKING:
    from dreamer.simulations.engine.node import Node
    from dreamer.simulations.scenario.model import Group


def limits_of(group: Group) -> Limits:
    """Return the limits that the owners of a group's machines have set."""
    return Limits(Rates(rate_bytes_s(group.up_limit_mbit), rate_bytes_s(group.down_limit_mbit)))


class Pace:
    """What a machine takes in (``swarm.asking.DownPace``), as ``daemon/sharing/pace.py`` has it."""

    def __init__(self, node: Node, shaping: Shaping) -> None:
        self._node = node
        self._down = shaping.down

    def grant(self, lane: Lane, lan: bool, now: float) -> float:
        """Return how many bytes may be asked for."""
        return self._down.level(lane, lan, now)

    def take(self, lane: Lane, lan: bool, size_bytes: int, now: float) -> None:
        """Count bytes that were asked for, or that won't come after all."""
        self._down.take(lane, lan, size_bytes, now)
