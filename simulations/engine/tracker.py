"""The room's tracker: who holds or fetches what. It introduces, and decides nothing else."""

from __future__ import annotations

from random import Random

from dreamer.protocol.ids import NodeId
from dreamer.protocol.swarm.holders import Found, Swarm


class Tracker:
    """The members of each model's swarm, as they have announced themselves."""

    def __init__(self, rng: Random) -> None:
        self.up = True
        self._rng = rng
        self._swarms: dict[str, Swarm] = {}

    def announce(self, model: str, node: NodeId, *, whole: bool) -> None:
        """Take a member's word that it holds a model or fetches it."""
        if model not in self._swarms:
            self._swarms[model] = Swarm(model.encode())
        self._swarms[model].claim(node, whole=whole)

    def gone(self, node: NodeId) -> None:
        """Forget a member whose connection is gone."""
        for swarm in self._swarms.values():
            swarm.disclaim(node)

    def seek(self, model: str, asker: NodeId) -> Found:
        """Return what the real tracker would say: it has the same ``Swarm``."""
        swarm = self._swarms.get(model)
        return Found() if swarm is None else swarm.found(asker, self._rng)
