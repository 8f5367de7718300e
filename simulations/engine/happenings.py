"""What happens to the machines of a run: they come, wish for models, go, and lines break.

All of it is drawn from the seed when the run is built, except what depends on how it goes.
"""

from __future__ import annotations

from functools import partial
from math import log
from random import Random
from typing import TYPE_CHECKING

from dreamer.protocol.limits import LINK_WAITING_SILENCE_S
from dreamer.simulations.engine.node import Node
from dreamer.simulations.scenario.model import Churn, Partition, Span

if TYPE_CHECKING:
    from dreamer.simulations.engine.world import World


class Happenings:
    """Puts on the heap what a scenario says will happen."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._rng = Random(f"{world.seed}/happenings")
        self._cut: dict[int, frozenset[str]] = {}
        for node in world.nodes:
            self._life(node)
        for span in world.scenario.tracker_outages:
            self._outage(span)
        for number, partition in enumerate(world.scenario.partitions):
            self._partition(number, partition)

    # Machines

    def _life(self, node: Node) -> None:
        group, clock = node.group, self._world.clock
        joins_at = self._between(group.joins_from_s, group.joins_to_s)
        clock.at(joins_at, partial(self._joins, node))
        for wish in group.pulls:
            model = self._world.models[wish.model]
            at = max(joins_at, self._between(wish.from_s, wish.to_s))
            self._world.wish(node, model, at)
        if group.misdeed is not None and group.misdeed_from_s:
            clock.at(group.misdeed_from_s, node.turn)
        if group.leaves_at_s:
            clock.at(group.leaves_at_s, partial(self._leaves, node, for_good=True))

    def _between(self, from_s: float, to_s: float) -> float:
        # A file that names no end means: at that moment.
        return self._rng.uniform(from_s, max(from_s, to_s))

    def _joins(self, node: Node) -> None:
        if node.online or node.gone_for_good:
            return
        self._world.join(node)
        if node.group.churn is not None:
            on_s = self._drawn(node.group.churn.on_half_life_s)
            self._world.clock.after(on_s, partial(self._goes_off, node, node.group.churn))

    def _goes_off(self, node: Node, churn: Churn) -> None:
        self._leaves(node, for_good=not churn.off_half_life_s)
        if not churn.keeps_disk:
            node.lose_disk()
        if churn.off_half_life_s:
            off_s = self._drawn(churn.off_half_life_s)
            self._world.clock.after(off_s, partial(self._joins, node))

    def _drawn(self, half_life_s: float) -> float:
        return self._rng.expovariate(log(2) / half_life_s)

    def _leaves(self, node: Node, *, for_good: bool) -> None:
        if node.online:
            node.left_once = True
            self._world.leave(node)
        if for_good:
            node.go_for_good()

    def fetched(self, share: float) -> None:
        """Take note of how much of all that is to be fetched has been."""
        for node in self._world.nodes:
            due = node.group.leaves_at_share
            if due and share >= due and node.online:
                self._leaves(node, for_good=True)

    # The tracker and the lines

    def _outage(self, span: Span) -> None:
        clock, tracker = self._world.clock, self._world.tracker
        clock.at(span.from_s, partial(setattr, tracker, "up", False))
        clock.at(span.to_s, self._tracker_back)

    def _tracker_back(self) -> None:
        self._world.tracker.up = True
        for node in self._world.nodes:
            if node.online:
                self._world.announce_all(node)

    def _partition(self, number: int, partition: Partition) -> None:
        clock = self._world.clock
        clock.at(partition.span.from_s, partial(self._part, number, partition))
        clock.at(partition.span.to_s, partial(self._mend, number))

    def _part(self, number: int, partition: Partition) -> None:
        self._cut[number] = frozenset(partition.groups)
        for node in self._world.nodes:
            for end in list(node.links.values()):
                if not self.together(node, end.far.node) and end.up:
                    end.cut()
                    end.far.cut()
                    # Both notice by silence, as protocol/link/keepalive.py has it.
                    lose = partial(self._world.unlink, end)
                    self._world.clock.after(LINK_WAITING_SILENCE_S, lose)
            if self.outside_reach(node):
                node.origin_requests.lose_way()

    def _mend(self, number: int) -> None:
        del self._cut[number]

    def together(self, one: Node, other: Node) -> bool:
        """Return whether no partition lies between two machines."""
        return all(
            (one.group.name in groups) is (other.group.name in groups)
            for groups in self._cut.values()
        )

    def outside_reach(self, node: Node) -> bool:
        """Return whether a machine can't reach origin and tracker for a partition."""
        partitions = self._world.scenario.partitions
        return any(
            partitions[number].origin_too and node.group.name in groups
            for number, groups in self._cut.items()
        )
