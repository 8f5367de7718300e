"""The same fan-out in the simulator, with the overheads that were measured on the real one."""

from __future__ import annotations

from dataclasses import dataclass, replace

from dreamer.simulations.calibration.lines import BusyLines
from dreamer.simulations.calibration.real import Fanned, Pair
from dreamer.simulations.engine.lines import Lines
from dreamer.simulations.engine.node import FINISH_S, MB, Node
from dreamer.simulations.engine.observer import Observer
from dreamer.simulations.engine.pull import Pull
from dreamer.simulations.engine.world import World
from dreamer.simulations.scenario.model import Group, ModelSpec, Network, Scenario, Wish

MODEL = "weights"
GB = 1e9


@dataclass(frozen=True)
class Overheads:
    """What real machines do beside the protocol. ``lines``: what is left of them when all are busy;
    ``finish_s``: from the last block to the receipt."""

    lines: BusyLines
    finish_s: float


def simulated(run: Fanned, size: int, mbit: float, overheads: Overheads, seed: int) -> list[float]:
    """Return each node's seconds, with pulls and links that begin as they really did."""
    ends = _Ends()
    world = World(_scenario(run, size, mbit, overheads), seed, (ends,))
    world.lines = _MeasuredLines(world, run.links)
    world.run()
    return [ends.at_s[number] - one.began_s for number, one in enumerate(run.times, start=1)]


class _Ends(Observer):
    """When each node's pull ended."""

    def __init__(self) -> None:
        self.at_s: dict[int, float] = {}

    def pull_ended(self, pull: Pull, now: float) -> None:
        """Note it."""
        self.at_s[pull.node.index] = now


class _MeasuredLines(Lines):
    """Links that can carry blocks when the real ones could."""

    def __init__(self, world: World, links: dict[Pair, float]) -> None:
        super().__init__(world.scenario, world.flows)
        self._clock = world.clock
        self._links = links

    def setup_s(self, one: Node, other: Node) -> float:
        """Return how long it takes from now."""
        at = self._links.get((min(one.index, other.index), max(one.index, other.index)))
        return super().setup_s(one, other) if at is None else max(0.0, at - self._clock.now)


def _scenario(run: Fanned, size: int, mbit: float, overheads: Overheads) -> Scenario:
    rate = mbit * overheads.lines.share
    # The engine adds a hash at this rate to what it takes to lay out a file on an idle machine.
    busy_s = overheads.finish_s - FINISH_S
    kind = Group("", 1, rate, rate, hash_mb_s=size / MB / busy_s if busy_s > 0 else 0.0)
    seed = replace(kind, name="node0", holds=(MODEL,))
    others = [
        replace(kind, name=f"node{number}", pulls=(Wish(MODEL, one.resolved_s, one.resolved_s),))
        for number, one in enumerate(run.times, start=1)
    ]
    return Scenario(
        name="fan-out",
        about="one seed and as many nodes as the real one had",
        models=(ModelSpec(MODEL, size / GB),),
        groups=(seed, *others),
        block_mib=1,
        rate_interval_s=0.0,
        network=Network(latency_ms=overheads.lines.latency_ms),
    )
