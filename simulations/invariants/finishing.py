"""Every machine that can reach a full copy finishes.

A pull has failed if it gives up, or stands still until the run ends, although what it is missing
was there all the while: on machines that it could be linked to, directly or by way of others that
pull the same, or at the origin. That it takes long is no failure here: scenarios say what they
expect.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from dreamer.protocol.limits import (
    MIB,
    PULL_NO_SOURCE_TIMEOUT_S,
    PULL_STALL_TIMEOUT_S,
    REQUESTS_IN_FLIGHT_MAX,
)
from dreamer.protocol.swarm.vocabulary import BlockVerified
from dreamer.simulations.invariants.books import Account, Books
from dreamer.simulations.invariants.invariant import Check, Complain, Invariant, naming
from dreamer.simulations.invariants.reachable import Stretch, reachable_blocks

if TYPE_CHECKING:
    from dreamer.simulations.engine.node import Node
    from dreamer.simulations.engine.pull import Pull
    from dreamer.simulations.engine.world import World
    from dreamer.simulations.scenario.model import Group, Scenario

BYTES_PER_MBIT = 125_000.0
STILL_S = 300.0
"""Longer than anything lets a pull wait: one that hung rests for 90 s before it is given up."""

BLOCKS_WAITED_FOR = 50
"""So many blocks' time, at the slowest rate there is, is no standing still either."""


class Finishes(Invariant):
    """Keeps since when each machine is there, and when each pull last got on."""

    name = "whoever can, finishes"

    def __init__(self, books: Books, complain: Complain) -> None:
        super().__init__(books, complain)
        self._here_since: dict[int, float] = {}
        self._got_on_at: dict[Pull, float] = {}

    @property
    def events(self) -> Mapping[type, Check]:
        """Blocks that come."""
        return {BlockVerified: self._got_on}

    def joined(self, node: Node, now: float) -> None:
        """Note that a machine is there."""
        self._here_since[node.index] = now
        for pull in node.pulls.values():
            self._got_on_at[pull] = now

    def left(self, node: Node, now: float) -> None:
        """Note that it is not."""
        self._here_since.pop(node.index, None)

    def pull_began(self, pull: Pull, now: float) -> None:
        """Give it time from now on."""
        self._got_on_at[pull] = now

    def _got_on(self, pull: Pull, account: Account, event: BlockVerified, now: float) -> None:
        self._got_on_at[pull] = now

    def pull_ended(self, pull: Pull, now: float) -> None:
        """Look at a pull that has given up."""
        waited_s = now - self._got_on_at.pop(pull, now)
        if pull.finished_at is not None or not pull.node.online or _no_room(pull):
            return
        if waited_s >= PULL_STALL_TIMEOUT_S and _round_s(pull) > PULL_STALL_TIMEOUT_S / 2:
            return
        during = Stretch(now - PULL_NO_SOURCE_TIMEOUT_S, now)
        self._look(pull, during, f"gives up ({pull.gave_up})")

    def ended(self, world: World) -> None:
        """Look at the pulls that are under way when the time is up."""
        now = world.clock.now
        still_s = max(STILL_S, _slowest_s(world.scenario))
        for node in world.nodes:
            for pull in node.pulls.values():
                since = self._got_on_at.get(pull, now)
                if node.online and since <= now - still_s:
                    during = Stretch(now - still_s, now)
                    self._look(pull, during, f"stands still for {now - since:.0f} s")

    def _look(self, pull: Pull, during: Stretch, what: str) -> None:
        node, model, world = pull.node, pull.model, pull.world
        # The tracker is how they find one another.
        outages = any(during.meets(span) for span in world.scenario.tracker_outages)
        others = (
            [] if outages else [one for one in world.nodes if self._was_there(one, pull, during)]
        )
        missing = model.everything & ~pull.present
        known = others if not outages else []
        there = missing & reachable_blocks(node, model, known, world.scenario, during)
        if there == missing and self._was_there(node, pull, during):
            words = f"{what} without {naming(missing)} of {model.name}, which others have"
            self.broken(node, during.to_s, words)

    def _was_there(self, node: Node, pull: Pull, during: Stretch) -> bool:
        since = self._here_since.get(node.index)
        if since is None or since > during.from_s or node.group.misdeed is not None:
            return False
        return node.concerned_with(pull.model.name) or node is pull.node


def _no_room(pull: Pull) -> bool:
    return not pull.present and pull.core is None and "disk" in pull.gave_up


def _slowest_s(scenario: Scenario) -> float:
    """Return how long some blocks take at the slowest rate that a scenario has anywhere."""
    rates = [rate for group in scenario.groups for rate in _rates(group)]
    rates += [relay.up_mbit for relay in scenario.relays]
    rates += [line.mbit for line in scenario.network.lines if line.mbit]
    if scenario.origin is not None:
        rates += [scenario.origin.up_mbit, scenario.origin.per_request_mbit]
    megabits = (
        max([scenario.block_mib, *(model.block_mib for model in scenario.models)]) * MIB / 125_000
    )
    return BLOCKS_WAITED_FOR * megabits / min(rates)


def _rates(group: Group) -> list[float]:
    share = 0.1 if group.slow_share else 1.0
    limits = (group.up_limit_mbit, group.down_limit_mbit, 8 * group.disk_mb_s, 8 * group.hash_mb_s)
    return [group.up_mbit * share, group.down_mbit * share, *(one for one in limits if one)]


def _round_s(pull: Pull) -> float:
    """Return how long one block for each pull of a run takes, by the rates of this one's sources.

    Where that comes near ``PULL_STALL_TIMEOUT_S`` a pull may rightly give up: its blocks stand for
    so many that they are not to be had in time. With blocks of a MiB it takes hundreds of pulls.
    """
    scenario, node, name = pull.world.scenario, pull.node, pull.model.name
    giving = sum(
        min(_rates(group)) * group.count for group in scenario.groups if name in group.holds
    )
    if scenario.origin is not None and name in scenario.origin.holds:
        giving += scenario.origin.up_mbit
    pulls = sum(group.count * len(group.pulls) for group in scenario.groups)
    own = REQUESTS_IN_FLIGHT_MAX * len(node.group.pulls) / min(_rates(node.group))
    per_megabit = max(pulls / giving if giving else own, own)
    return per_megabit * pull.model.layout.block_bytes / BYTES_PER_MBIT
