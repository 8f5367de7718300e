"""What a machine's links may carry over TURN relays, as the daemon's ``RelayBudget`` says.

The daemon's transport stops by itself within a chunk of what it is allowed; here blocks are whole,
so one that would go beyond is not sent at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from dreamer.protocol.limits import MIB
from dreamer.protocol.relay_budget import Allow, Budgets, Command, Hold, RelayBudget, Resume
from dreamer.protocol.swarm.vocabulary import SourceMoved
from dreamer.simulations.engine.links import End

if TYPE_CHECKING:
    from dreamer.simulations.engine.node import Node
    from dreamer.simulations.engine.pull import Pull

EPOCH_S = 1_767_225_600.0
"""2026-01-01 UTC: budgets are kept by calendar days and months."""


class Relaying:
    """The relay budget of one machine. Without one, relays carry what they can."""

    def __init__(self, node: Node) -> None:
        self._node = node
        size = node.group.relay_budget_mib * MIB
        self.budget = RelayBudget(Budgets(size, size, size)) if size else None
        self.carried_bytes = 0

    def _now(self) -> float:
        return EPOCH_S + self._node.world.clock.now

    def link_up(self, end: End) -> None:
        """Take note of a relayed link."""
        if self.budget is not None:
            self._carry_out(self.budget.link_up(end.number, end.peer, self._now()))

    def link_down(self, end: End) -> None:
        """Forget a link."""
        if self.budget is not None:
            self.budget.link_down(end.number)

    def lets_pass(self, end: End, size_bytes: int) -> bool:
        """Return whether bytes may be sent to the peer, which both ends' budgets then count.

        They count before they are on their way: what several blocks on the way add up to must not
        go beyond a budget. One that is called off meanwhile has been counted for nothing.
        """
        here, there = self, end.far.node.relaying
        if here._fits(end, size_bytes) and there._fits(end.far, size_bytes):
            here._count(end, size_bytes)
            there._count(end.far, size_bytes)
            return True
        here._stopped(end)
        there._stopped(end.far)
        return False

    def _fits(self, end: End, size_bytes: int) -> bool:
        return self.budget is None or end.relayed_bytes + size_bytes <= end.allowed_bytes

    def _count(self, end: End, size_bytes: int) -> None:
        self.carried_bytes += size_bytes
        end.relayed_bytes += size_bytes
        if self.budget is not None:
            self._carry_out(self.budget.counted(end.number, end.relayed_bytes, self._now()))

    def _stopped(self, end: End) -> None:
        if self.budget is None:
            return
        # Part of a block still went, and stopped when the allowance was used up.
        if (rest := end.allowed_bytes - end.relayed_bytes) > 0:
            self._count(end, rest)
            self._node.world.observers.wasted(self._node, rest, self._node.world.clock.now)
        self._carry_out(self.budget.stopped(end.number, self._now()))

    def _carry_out(self, commands: Sequence[Command]) -> None:
        for command in commands:
            end = self._node.links.get(command.link)
            if end is None:
                continue
            match command:
                case Allow(_, relayed_bytes):
                    end.allowed_bytes = relayed_bytes
                case Hold():
                    self._spent(end, spent=True)
                case Resume():
                    self._spent(end, spent=False)

    def _spent(self, end: End, *, spent: bool) -> None:
        # Both ends stop: the daemon that holds says so to the other one (messages.BulkHeld).
        for one in (end, end.far):
            if one.up and one.bulk_spent is not spent:
                one.bulk_spent = spent
                one.node.lane_changed(one)
                for pull in list(one.node.pulls.values()):
                    self.say_moved(pull, one)

    @staticmethod
    def say_moved(pull: Pull, end: End) -> None:
        """Tell a planner whether blocks may come over a link."""
        pull.moved(end, SourceMoved(end.source, end.lane, not end.bulk_spent))
