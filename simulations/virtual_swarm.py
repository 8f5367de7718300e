"""Machines that run the daemon's own planner on a virtual clock and network.

Every machine that downloads has a ``protocol.swarm.download.Download`` and carries out its commands
as ``daemon.sharing.pull_job`` does; nothing is hashed or sent, blocks are numbers. Whatever happens
is an entry of one heap, so the same machines and seed give the same trace in any process.

The network is simple: a block leaves over its sender's uplink, one at a time and in turn for each
peer, takes ``LATENCY_S``, and comes in over its receiver's downlink, one at a time.
"""

from __future__ import annotations

import functools
import heapq
import itertools
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random

from blake3 import blake3

from dreamer.protocol.limits import DISCOVERY_REPEAT_S, MIB, REQUESTS_QUEUED_PER_PEER
from dreamer.protocol.swarm import bitfield
from dreamer.protocol.swarm.download import Download
from dreamer.protocol.swarm.remaining import Geometry
from dreamer.protocol.swarm.tidings import flush_delay_s
from dreamer.protocol.swarm.vocabulary import (
    Blame,
    BlockRejected,
    BlockVerified,
    BytesArrived,
    Cancel,
    Command,
    Complete,
    CrowdSeen,
    DiscoveryEnded,
    Drop,
    Event,
    Fetch,
    FileFinished,
    FinishFile,
    GiveUp,
    Lane,
    RequestRefused,
    Share,
    SourceGained,
    SourceId,
    SourceJoined,
    SourceLost,
    Tick,
)

LATENCY_S = 0.02
DISCOVERY_S = 1.0
FINISH_FILE_S = 0.05
FOREVER = float("inf")


@dataclass(frozen=True)
class Machine:
    """What a machine has and does. Rates in bytes per second, times in virtual seconds.

    ``apart`` names machines that it can't be linked to, though a tracker names them.
    """

    name: str
    up_bytes_s: float = 100.0 * MIB
    down_bytes_s: float = 100.0 * MIB
    has_all: bool = False
    is_origin: bool = False
    lies: bool = False
    hangs_at: float = FOREVER
    leaves_at: float = FOREVER
    joins_at: float = 0.0
    apart: frozenset[str] = frozenset()


@dataclass
class Outcome:
    """How it went for one machine. ``finished_at`` is None when it never did."""

    finished_at: float | None = None
    gave_up: str | None = None
    blamed: list[str] = field(default_factory=list)
    by_lane: dict[Lane, int] = field(default_factory=dict)
    served_bytes: int = 0


class Node:
    """A running machine: its planner, if it downloads, and its queues."""

    def __init__(self, machine: Machine, held: int, core: Download | None) -> None:
        self.machine = machine
        self.id = SourceId(machine.name)
        self.core = core
        self.held = held
        self.unsaid = 0
        self.said_blocks = 0
        self.links: dict[SourceId, Node] = {}
        self.queues: dict[SourceId, deque[tuple[int, int]]] = {}
        self.sending = False
        self.down_free_at = 0.0
        self.wake_at = FOREVER
        self.outcome = Outcome()

    @property
    def lane(self) -> Lane:
        """The lane on which others reach it."""
        return Lane.ORIGIN if self.machine.is_origin else Lane.WEBRTC

    def next_block(self) -> tuple[SourceId, int, int] | None:
        """Take the next block to send off the queues, in turn for each peer."""
        for peer in list(self.queues):
            queue = self.queues.pop(peer)
            if queue:
                self.queues[peer] = queue
                return peer, *queue.popleft()
        return None


class VirtualSwarm:
    """All machines, each linked to each, and the time. ``trace_hash`` sums up what happened."""

    def __init__(self, geometry: Geometry, machines: Sequence[Machine], seed: int) -> None:
        self.now = 0.0
        self._geometry = geometry
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._trace = blake3()
        self.nodes = {SourceId(m.name): self._node(m, seed + i) for i, m in enumerate(machines)}
        self._here: list[Node] = []
        for node in self.nodes.values():
            if node.machine.joins_at:
                self._at(node.machine.joins_at, functools.partial(self._join, node))
            else:
                self._join(node)

    def _node(self, machine: Machine, seed: int) -> Node:
        everything = bitfield.full(self._geometry.block_count)
        if machine.has_all or machine.is_origin:
            return Node(machine, everything, None)
        own = SourceId(machine.name)
        start_s = machine.joins_at
        core = Download(self._geometry, 0, itertools.count(1), Random(seed), start_s, own)
        return Node(machine, 0, core)

    def _join(self, node: Node) -> None:
        for other in self._here:
            if other.machine.name not in node.machine.apart:
                self._link(node, other)
                self._link(other, node)
        self._here.append(node)
        self._begin(node)

    def _link(self, one: Node, other: Node) -> None:
        one.links[other.id] = other
        # A liar says that it has all.
        held = bitfield.full(self._geometry.block_count) if other.machine.lies else other.held
        fetching = other.core is not None and other.outcome.finished_at is None
        joined = SourceJoined(other.id, other.lane, held, fetching)
        self._at(LATENCY_S, lambda: self._feed(one, joined))

    def _begin(self, node: Node) -> None:
        if node.core is not None:
            self._perform(node, node.core.start(self.now))
            self._look_around(node)
            self._at(DISCOVERY_S, lambda: self._feed(node, DiscoveryEnded()))
        if node.machine.leaves_at < FOREVER:
            self._at(node.machine.leaves_at, lambda: self._leave(node))

    def _look_around(self, node: Node) -> None:
        """Tell a node what a tracker says of the others, now and again while it pulls."""
        if node.outcome.finished_at is None and node.outcome.gave_up is None and node in self._here:
            others = (one for one in self._here if one is not node and not one.machine.is_origin)
            self._feed(node, CrowdSeen(tuple(one.id for one in others)))
            self._at(DISCOVERY_REPEAT_S, lambda: self._look_around(node))

    def run(self, until_s: float = 3600.0) -> dict[str, Outcome]:
        """Let time pass until nothing is left to happen; return how it went, by name."""
        while self._heap and self._heap[0][0] <= until_s:
            self.now, _, happen = heapq.heappop(self._heap)
            happen()
        for node in self.nodes.values():
            if node.core is not None:
                node.outcome.by_lane = dict(node.core.bytes_by_lane)
        return {str(name): node.outcome for name, node in self.nodes.items()}

    @property
    def trace_hash(self) -> str:
        """The hash of every event and command so far, with its time and machine."""
        return self._trace.hexdigest()

    def _at(self, delay_s: float, happen: Callable[[], None]) -> None:
        heapq.heappush(self._heap, (self.now + delay_s, next(self._order), happen))

    # The planner of each machine

    def _feed(self, node: Node, event: Event) -> None:
        ended = node.outcome.finished_at is not None or node.outcome.gave_up is not None
        if node.core is None or ended:
            return
        self._trace.update(f"{self.now:.9f} {node.id} < {event!r}\n".encode())
        self._perform(node, node.core.handle(event, self.now))
        self._wake_later(node, node.core)

    def _wake_later(self, node: Node, core: Download) -> None:
        wake = core.next_wake(self.now)
        if wake < node.wake_at or node.wake_at <= self.now:
            node.wake_at = wake
            self._at(wake - self.now, lambda: self._wake(node, wake))

    def _wake(self, node: Node, wake: float) -> None:
        if node.wake_at == wake:
            node.wake_at = FOREVER
            self._feed(node, Tick())

    def _perform(self, node: Node, commands: list[Command]) -> None:
        for command in commands:
            self._trace.update(f"{self.now:.9f} {node.id} > {command!r}\n".encode())
            match command:
                case Fetch(source) | Cancel(source) if other := node.links.get(source):
                    self._ask(node, other, command)
                case Blame(source):
                    node.outcome.blamed.append(source)
                    self._unlink(node, source)
                case Drop(source):
                    self._unlink(node, source)
                case Share(blocks):
                    self._share(node, blocks)
                case FinishFile(index):
                    self._finish_later(node, index)
                case Complete():
                    node.outcome.finished_at = self.now
                case GiveUp(reason):
                    node.outcome.gave_up = reason

    def _ask(self, node: Node, other: Node, command: Fetch | Cancel) -> None:
        take = self._wanted if isinstance(command, Fetch) else self._cancelled
        self._at(LATENCY_S, lambda: take(other, node, command))  # type: ignore[arg-type]

    def _finish_later(self, node: Node, file_index: int) -> None:
        self._at(FINISH_FILE_S, lambda: self._feed(node, FileFinished(file_index)))

    def _share(self, node: Node, blocks: int) -> None:
        node.held |= blocks
        if not node.unsaid:
            self._at(flush_delay_s(node.said_blocks), lambda: self._say_gained(node))
        node.unsaid |= blocks

    def _say_gained(self, node: Node) -> None:
        gained, node.unsaid = node.unsaid, 0
        node.said_blocks = gained.bit_count()
        for other in list(node.links.values()):
            self._feed(other, SourceGained(node.id, gained))

    # Serving

    def _wanted(self, node: Node, asker: Node, fetch: Fetch) -> None:
        if asker.id not in node.links:
            return
        queue = node.queues.setdefault(asker.id, deque())
        busy = len(dict.fromkeys(request for request, _ in queue)) >= REQUESTS_QUEUED_PER_PEER
        unheld = bitfield.span(fetch.first, fetch.count) & ~node.held and not node.machine.lies
        if busy or unheld:
            refused = RequestRefused(node.id, fetch.request, busy)
            self._at(LATENCY_S, lambda: self._feed(asker, refused))
            return
        queue.extend((fetch.request, fetch.first + step) for step in range(fetch.count))
        self._send_next(node)

    def _cancelled(self, node: Node, asker: Node, cancel: Cancel) -> None:
        left = [
            (request, block)
            for request, block in node.queues.get(asker.id, ())
            if request != cancel.request or cancel.block not in (None, block)
        ]
        node.queues[asker.id] = deque(left)

    def _send_next(self, node: Node) -> None:
        if node.sending or self.now >= node.machine.hangs_at:
            return
        if (found := node.next_block()) is None:
            return
        peer, request, block = found
        node.sending = True
        seconds = self._geometry.block_size(block) / node.machine.up_bytes_s
        self._at(seconds, lambda: self._sent(node, peer, request, block))

    def _sent(self, node: Node, peer: SourceId, request: int, block: int) -> None:
        node.sending = False
        if (other := node.links.get(peer)) is not None:
            size = self._geometry.block_size(block)
            node.outcome.served_bytes += size
            through = other.down_free_at + size / other.machine.down_bytes_s
            other.down_free_at = max(self.now + LATENCY_S, through)
            wait = other.down_free_at - self.now
            self._at(wait, lambda: self._arrived(other, node, request, block))
        self._send_next(node)

    def _arrived(self, node: Node, sender: Node, request: int, block: int) -> None:
        if node.core is None or not node.core.is_open(sender.id, request):
            return
        self._feed(node, BytesArrived(sender.id, self._geometry.block_size(block)))
        verdict = BlockRejected if sender.machine.lies else BlockVerified
        self._feed(node, verdict(sender.id, request, block))

    # Going

    def _leave(self, node: Node) -> None:
        self._here.remove(node)
        for peer in list(node.links):
            self._unlink(node, peer)

    def _unlink(self, node: Node, peer: SourceId) -> None:
        other = node.links.pop(peer, None)
        if other is not None:
            other.links.pop(node.id, None)
            for one, gone in ((node, other), (other, node)):
                one.queues.pop(gone.id, None)
                self._feed(one, SourceLost(gone.id))
