"""Watches a run and says at its end how it went: a ``RunResult`` in plain values."""

from __future__ import annotations

import resource
import time
from collections.abc import Callable, Sequence
from statistics import median

from dreamer.protocol.swarm.vocabulary import Lane
from dreamer.simulations.engine.bound import bound_s
from dreamer.simulations.engine.cycles import looked_for_rarely
from dreamer.simulations.engine.links import End
from dreamer.simulations.engine.node import Node
from dreamer.simulations.engine.observer import Observer
from dreamer.simulations.engine.pull import Pull
from dreamer.simulations.engine.rightness import Rightness
from dreamer.simulations.engine.world import World
from dreamer.simulations.report.result import (
    Engine,
    NodeResult,
    OriginUse,
    RelayUse,
    RunResult,
    Traffic,
)
from dreamer.simulations.scenario.model import Scenario

STEPS_MAX = 200
"""So many points has a curve over time, about."""


class Recorder(Observer):
    """Counts what passes, by lane and in steps of time that grow as the run goes on."""

    def __init__(self) -> None:
        self.step_s = 1.0
        self.by_lane: dict[str, list[int]] = {lane.value: [] for lane in Lane}
        self.relayed_in: list[int] = []
        self.blocks = 0
        self.wasted_bytes = 0
        self.began_s: dict[tuple[int, str], float] = {}
        self.finished_s: dict[tuple[int, str], float] = {}
        self.failed: dict[tuple[int, str], str] = {}

    def _add(self, series: list[int], size_bytes: int, now: float) -> None:
        step = int(now / self.step_s)
        while step >= STEPS_MAX * 2:
            self._coarsen()
            step = int(now / self.step_s)
        if len(series) <= step:
            series.extend([0] * (step + 1 - len(series)))
        series[step] += size_bytes

    def _coarsen(self) -> None:
        self.step_s *= 2
        for series in (*self.by_lane.values(), self.relayed_in):
            series[:] = [sum(series[at : at + 2]) for at in range(0, len(series), 2)]

    def arrived(
        self, pull: Pull, lane: Lane, block: int, size_bytes: int, *, right: bool, now: float
    ) -> None:
        """Count a block that came in."""
        self.blocks += 1
        self._add(self.by_lane[lane.value], size_bytes, now)

    def wasted(self, node: Node, size_bytes: int, now: float) -> None:
        """Count bytes that nobody had use for."""
        self.wasted_bytes += size_bytes

    def relayed(self, end: End, size_bytes: int, now: float) -> None:
        """Count what passed a relay."""
        self._add(self.relayed_in, size_bytes, now)

    def pull_began(self, pull: Pull, now: float) -> None:
        """Note when a pull began."""
        self.began_s[pull.node.index, pull.model.name] = now

    def pull_ended(self, pull: Pull, now: float) -> None:
        """Note when a pull ended, and how."""
        key = (pull.node.index, pull.model.name)
        if pull.finished_at is not None:
            self.finished_s[key] = now
        else:
            self.failed[key] = pull.gave_up

    def traffic(self) -> Traffic:
        """Return bytes by lane over time."""
        length = max(map(len, (*self.by_lane.values(), self.relayed_in)), default=0)
        for series in (*self.by_lane.values(), self.relayed_in):
            series.extend([0] * (length - len(series)))
        return Traffic(self.step_s, self.by_lane)


def simulate(
    scenario: Scenario,
    seed: int | None = None,
    *,
    replay: str = "",
    observers: Sequence[Observer] = (),
    watch: Callable[[World], None] = lambda world: None,
    violations: Callable[[], list[str]] = list,
) -> RunResult:
    """Run a scenario and return how it went.

    Args:
        seed: another one than the scenario's own.
        replay: the command that does the same again, for whoever reads the result.
        observers: who else watches; ``violations`` returns what they found, at the end.
        watch: is called now and again with the run under way, for its progress.
    """
    began = time.perf_counter()
    recorder, rightness = Recorder(), Rightness()
    with looked_for_rarely():
        world = World(scenario, seed, (recorder, rightness, *observers))
        world.run(lambda: watch(world))
    kept_bad = sum(map(rightness.wrong, world.nodes))
    wall_s = time.perf_counter() - began
    return _result(world, recorder, kept_bad, replay, violations(), wall_s)


def _result(
    world: World,
    recorder: Recorder,
    kept_bad: int,
    replay: str,
    violations: list[str],
    wall_s: float,
) -> RunResult:
    began: dict[int, dict[str, float]] = {}
    for (index, name), at in recorder.began_s.items():
        began.setdefault(index, {})[name] = at
    each = [_node(node, began.get(node.index, {}), recorder) for node in world.nodes]
    durations = _durations_of_those_who_stayed(world, each)
    traffic = recorder.traffic()
    return RunResult(
        scenario=world.scenario.name,
        about=world.scenario.about,
        seed=world.seed,
        nodes=len(world.nodes),
        replay=replay,
        ended_at_s=world.clock.now,
        bound_s=bound_s(world),
        last_s=max(durations, default=0.0),
        median_s=median(durations) if durations else 0.0,
        each=each,
        traffic=traffic,
        origin=_origin(world),
        relay=_relay(world, recorder),
        blamed=world.blamed,
        bad_blocks_kept=kept_bad,
        wasted_bytes=recorder.wasted_bytes,
        violations=violations,
        missed=[],
        engine=_engine(world, recorder, wall_s),
    )


def _node(node: Node, began: dict[str, float], recorder: Recorder) -> NodeResult:
    finished = {name: recorder.finished_s.get((node.index, name)) for name in began}
    done = {name: at for name, at in finished.items() if at is not None}
    return NodeResult(
        name=node.name,
        group=node.group.name,
        up_bytes=node.up_bytes,
        down_bytes=node.down_bytes,
        pulled_s={name: at - began[name] for name, at in done.items()},
        finished_at_s=done,
        unfinished={
            name: recorder.failed.get((node.index, name), "the run ended")
            for name in began
            if name not in done
        },
        stayed=not node.left_once,
        honest=node.group.misdeed is None,
    )


def _durations_of_those_who_stayed(world: World, each: list[NodeResult]) -> list[float]:
    stayed = [node for node in each if node.stayed and node.honest] or each
    return [seconds for node in stayed for seconds in node.pulled_s.values()]


def _origin(world: World) -> OriginUse:
    origin = world.origin
    if origin is None:
        return OriginUse()
    wished = {wish.model for group in world.scenario.groups for wish in group.pulls}
    size = sum(world.models[name].size_bytes for name in wished)
    copies = origin.bytes / size if size else 0.0
    return OriginUse(origin.bytes, origin.requests, origin.refused, copies)


def _relay(world: World, recorder: Recorder) -> RelayUse:
    so_far, over_time = 0, []
    for size in recorder.relayed_in:
        so_far += size
        over_time.append(so_far)
    budget = sum(node.group.relay_budget_mib for node in world.nodes) << 20
    return RelayUse(so_far, budget, over_time)


def _engine(world: World, recorder: Recorder, wall_s: float) -> Engine:
    peak_mib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    clock = world.clock
    return Engine(world.trace.hash, clock.happened, wall_s, peak_mib, recorder.blocks)
