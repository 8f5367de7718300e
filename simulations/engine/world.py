"""Everything of one run: machines, what is between them, and the time.

The same scenario and seed give the same ``trace.hash`` in any process: whatever is drawn comes from
streams that the seed names, and what happens at the same moment happens in the order asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from random import Random

from dreamer.protocol.ids import NodeId
from dreamer.protocol.limits import LINKS_MAX_PER_NODE, MIB
from dreamer.protocol.swarm.vocabulary import Command, Event, Lane, SourceId
from dreamer.simulations.engine.catalogue import Model, models_of
from dreamer.simulations.engine.clock import Clock
from dreamer.simulations.engine.flows import Flows
from dreamer.simulations.engine.gossip import Neighbours, can_signal, heard_of
from dreamer.simulations.engine.happenings import Happenings
from dreamer.simulations.engine.lines import Lines
from dreamer.simulations.engine.links import End, loss_cap
from dreamer.simulations.engine.naming import source_named
from dreamer.simulations.engine.node import Node
from dreamer.simulations.engine.observer import Observer, Observers
from dreamer.simulations.engine.origin import Origin
from dreamer.simulations.engine.population import populate
from dreamer.simulations.engine.pull import Pull
from dreamer.simulations.engine.reach import lane_between
from dreamer.simulations.engine.trace import Trace
from dreamer.simulations.engine.tracker import Tracker
from dreamer.simulations.engine.transcript import kind_of, numbers_of
from dreamer.simulations.scenario.model import Scenario

WATCHED_EVERY = 2000
"""So many events of the heap between two looks of whoever watches a run's progress."""


class World:
    """One run of a scenario; ``run`` lets it happen, once."""

    SENT = 200
    """What the trace calls a block that has left a machine; other kinds are the planner's."""

    def __init__(
        self, scenario: Scenario, seed: int | None = None, observers: Sequence[Observer] = ()
    ) -> None:
        self.scenario = scenario
        self.seed = scenario.seed if seed is None else seed
        self.clock = Clock()
        self.trace = Trace()
        self.flows = Flows(self.clock, scenario.rate_interval_s)
        self.models = models_of(scenario)
        self.models_by_id = {model.id: model for model in self.models.values()}
        self.block_bytes = scenario.block_mib * MIB
        self.rng = Random(f"{self.seed}/world")
        self.tracker = Tracker(Random(f"{self.seed}/tracker"))
        self.lines = Lines(scenario, self.flows)
        self.origin = Origin(self, scenario.origin) if scenario.origin is not None else None
        self.observers = Observers(observers)
        self.blamed = 0
        self.fetched_bytes = 0
        self.to_fetch_bytes = 0
        self._link_numbers = 0
        self._noted: tuple[Event | None, tuple[int, int, int]] = (None, (0, 0, 0))
        self.pulls_done = 0
        self.pulls_total = 0
        self.nodes = populate(self)
        self.by_id = {node.id: node for node in self.nodes}
        self._leavers = any(group.leaves_at_share for group in scenario.groups)
        self.happenings = Happenings(self)

    def run(self, watch: Callable[[], None] = lambda: None) -> None:
        """Let all of it happen, until every pull has ended or the scenario's time is over."""
        self.observers.began(self)
        clock, until_s = self.clock, self.scenario.until_s
        happened, watched = self.observers.happened, self.observers.watch_events
        while self.pulls_done < self.pulls_total and clock.step(until_s):
            if watched:
                happened(self)
            if clock.happened % WATCHED_EVERY == 0:
                watch()
        self.observers.ended(self)

    @property
    def over(self) -> bool:
        """Whether every pull has ended that was to be."""
        return self.pulls_done >= self.pulls_total

    # What the trace keeps

    def note_plan(self, pull: Pull, event: Event | None, commands: Sequence[Command]) -> None:
        """Add to the trace what a planner heard and said."""
        index = pull.node.index
        if event is not None:
            self.note_heard(index, event)
        if commands:
            now, add = self.clock.now, self.trace.add
            for command in commands:
                add(now, index, kind_of(command), *numbers_of(command))

    def note_heard(self, index: int, event: Event) -> None:
        """Add to the trace what a planner heard and had nothing to say to."""
        if event is not self._noted[0]:
            # What is told to all neighbours is the same event at each of them.
            self._noted = (event, (kind_of(event), *numbers_of(event)))
        self.trace.add(self.clock.now, index, *self._noted[1])

    @staticmethod
    @lru_cache(maxsize=1 << 16)
    def source_of(node: NodeId) -> SourceId:
        """Return how planners name a machine."""
        return source_named(node)

    # Machines come, wish and go

    def wish(self, node: Node, model: Model, at_s: float) -> None:
        """Have a machine pull a model from ``at_s`` on, or once it is there."""
        if node.group.misdeed is None:
            self.pulls_total += 1
            self.to_fetch_bytes += model.size_bytes
        self.clock.at(at_s, partial(node.pull, model))

    def join(self, node: Node) -> None:
        """Have a machine come."""
        node.join()
        self.announce_all(node)
        if self.scenario.tracker_outages or self.scenario.partitions:
            # Links that nobody pulls over matter only then, and cost the run something.
            Neighbours(node)

    def leave(self, node: Node) -> None:
        """Have a machine go."""
        node.leave()
        self.tracker.gone(node.id)

    def pull_ended(self, pull: Pull) -> None:
        """Count a pull that is over."""
        self.count_done(pull.node)
        self.observers.pull_ended(pull, self.clock.now)

    def count_done(self, node: Node) -> None:
        """Count a wish that is fulfilled, or never will be; nobody waits for those that harm."""
        if node.group.misdeed is None:
            self.pulls_done += 1

    def verified(self, size_bytes: int) -> None:
        """Count bytes that have come to where they were wanted."""
        self.fetched_bytes += size_bytes
        if self._leavers:
            self.happenings.fetched(self.fetched_bytes / max(self.to_fetch_bytes, 1))

    # The tracker

    def announce_all(self, node: Node) -> None:
        """Have a machine say again what it holds and fetches."""
        for name, blocks in node.held.items():
            model = self.models[name]
            self.announce(node, model, whole=blocks == model.everything)

    def announce(self, node: Node, model: Model, *, whole: bool) -> None:
        """Have a machine tell the tracker of a model."""
        self.clock.after(
            self.lines.tracker_latency_s(node), partial(self._announced, node, model, whole=whole)
        )

    def _announced(self, node: Node, model: Model, *, whole: bool) -> None:
        silent = not node.group.uses_peers
        if node.online and self.reaches_tracker(node) and not silent:
            self.tracker.announce(model.name, node.id, whole=whole)

    def reaches_tracker(self, node: Node) -> bool:
        """Return whether a machine is in touch with the tracker."""
        return self.tracker.up and not self.happenings.outside_reach(node)

    def seek(self, pull: Pull) -> None:
        """Ask who holds or fetches a model; the answer comes a round trip later."""
        self.clock.after(2 * self.lines.tracker_latency_s(pull.node), partial(self._found, pull))

    def _found(self, pull: Pull) -> None:
        if self.reaches_tracker(pull.node):
            pull.found(self.tracker.seek(pull.model.name, pull.node.id))
        else:
            pull.found(heard_of(pull.node, pull.model.name))

    # Links

    def connect(self, node: Node, peer: NodeId) -> None:
        """Have a machine call another one; the link stands a moment later, or never will."""
        other = self.by_id[peer]
        if peer in node.by_peer or peer in node.connecting or node.id in other.connecting:
            return
        if len(node.links) + len(node.connecting) >= LINKS_MAX_PER_NODE:
            return
        node.connecting[peer] = None
        setup_s = self.lines.setup_s(node, other)
        self.clock.after(setup_s, partial(self._connected, node, other))

    def _connected(self, node: Node, other: Node) -> None:
        if node.connecting.pop(other.id, self) is self:
            return
        lane = self._lane(node, other)
        if lane is not None and other.id not in node.by_peer:
            self._link(node, other, lane)
        for pull in list(node.pulls.values()):
            pull.gather()

    def _lane(self, node: Node, other: Node) -> Lane | None:
        if not (node.online and other.online) or not self.happenings.together(node, other):
            return None
        if node.shuns(other.id) or other.shuns(node.id):
            return None
        if max(len(node.links), len(other.links)) >= LINKS_MAX_PER_NODE:
            return None
        introduced = self.reaches_tracker(node) and self.reaches_tracker(other)
        if not introduced and not can_signal(node, other):
            return None
        relay = bool(self.lines.relays)
        return lane_between(node.group.nat, other.group.nat, relay=relay)

    def _link(self, node: Node, other: Node, lane: Lane) -> None:
        self._link_numbers += 1
        latency_s = self.lines.latency_s(node, other)
        ends = [End(self, self._link_numbers, one, lane, latency_s) for one in (node, other)]
        between = self.lines.pipes(node, other, lane, self._link_numbers)
        loss = self.lines.loss(node, other)
        for end, far in (ends, reversed(ends)):
            pipes = (*end.node.pipes_up, *between, *far.node.pipes_down)
            end.meet(far, pipes, loss_cap(loss, 2 * latency_s))
        for end in ends:
            end.node.link_up(end)

    def unlink(self, end: End) -> None:
        """End a link; the other side hears of it a moment later."""
        for one in (end, end.far):
            one.cut()
        if end.number in end.node.links:
            end.node.link_down(end)
        far = end.far
        self.clock.after(far.latency_s, partial(self._unlinked, far))

    def _unlinked(self, end: End) -> None:
        if end.number in end.node.links:
            end.node.link_down(end)
