"""Who holds or fetches one model, and whom of them a tracker names to one that asks.

Of many some fifty are named, by chance. Where many fetch what few hold, all are told of the same
committee (``committee.py``), and of those few first.
"""

from __future__ import annotations

from bisect import insort
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from dreamer.protocol.ids import NodeId
from dreamer.protocol.limits import CROWD_COMMITTEE, CROWD_FETCHING_PER_WHOLE
from dreamer.protocol.swarm.committee import committee, rank
from dreamer.protocol.tracker_limits import TRACKER_SEEK_MAX_NODES

T = TypeVar("T")


class Chance(Protocol):
    """The part of ``random.Random`` that choices are left to."""

    def sample(self, population: Sequence[T], k: int) -> list[T]:
        """Return ``k`` different ones of a sequence, in an order of chance."""
        ...


@dataclass(frozen=True)
class Found:
    """What a tracker says of a model: members, at most ``TRACKER_SEEK_MAX_NODES`` of them.

    ``whole`` are the first of ``nodes``, which have all of it. ``committee``: None where no more
    fetch than can divide everything among themselves.
    """

    nodes: tuple[NodeId, ...] = ()
    whole: tuple[NodeId, ...] = ()
    committee: tuple[NodeId, ...] | None = None


class Swarm:
    """The members that hold or fetch one model, which is ``name`` to all of them."""

    __slots__ = ("_large", "_members", "_name")

    def __init__(self, name: bytes) -> None:
        self._name = name
        self._members: dict[NodeId, bool] = {}
        # Most swarms are small, and a member may be in thousands of them.
        self._large: _Large | None = None

    def __len__(self) -> int:
        return len(self._members)

    def claim(self, node: NodeId, *, whole: bool) -> None:
        """Enter a member that has, or with ``whole`` False fetches, the model."""
        before = self._members.get(node)
        if before is whole:
            return
        if self._large is not None:
            if before is not None:
                self._large.take_out(node, whole=before)
            self._large.put_in(node, whole=whole)
        self._members[node] = whole

    def disclaim(self, node: NodeId) -> None:
        """Take a member out; one that isn't in is no error."""
        whole = self._members.pop(node, None)
        if whole is None:
            return
        if len(self._members) <= CROWD_COMMITTEE:
            self._large = None
        elif self._large is not None:
            self._large.take_out(node, whole=whole)

    def found(self, asker: NodeId, rng: Chance) -> Found:
        """Return what to tell a member that asks."""
        if len(self._members) <= CROWD_COMMITTEE:
            others = [node for node in self._members if node != asker]
            return self._told(rng.sample(others, min(len(others), TRACKER_SEEK_MAX_NODES)), None)
        if self._large is None:
            self._large = _Large(self._name, self._members)
        chosen = self._large.committee()
        # Whom only a few are to be linked to must all the same be known to those few.
        drawn = self._large.draw(asker, rng, whole_first=chosen is not None)
        return self._told(drawn, chosen)

    def _told(self, nodes: list[NodeId], chosen: tuple[NodeId, ...] | None) -> Found:
        # Stable: among those that are alike the order stays that of chance.
        nodes.sort(key=lambda node: not self._members[node])
        whole = tuple(node for node in nodes if self._members[node])
        return Found(tuple(nodes), whole, chosen)


class _Large:
    """A swarm of so many that neither all are named nor each answer may look at all of them."""

    def __init__(self, name: bytes, members: dict[NodeId, bool]) -> None:
        self._name = name
        self._whole = _Urn()
        self._fetching = _Urn()
        self._ranked: list[tuple[bytes, NodeId]] | None = None
        for node, whole in members.items():
            self.put_in(node, whole=whole)

    def put_in(self, node: NodeId, *, whole: bool) -> None:
        (self._whole if whole else self._fetching).add(node)
        if not whole and self._ranked is not None:
            insort(self._ranked, (rank(self._name, node), node))
            del self._ranked[CROWD_COMMITTEE:]

    def take_out(self, node: NodeId, *, whole: bool) -> None:
        (self._whole if whole else self._fetching).discard(node)
        if self._ranked is not None and any(node == each for _, each in self._ranked):
            # Who takes its place stands in no list of ranks that is kept: looked for when asked.
            self._ranked = None

    def committee(self) -> tuple[NodeId, ...] | None:
        fetching = len(self._fetching.nodes)
        enough = fetching <= CROWD_FETCHING_PER_WHOLE * len(self._whole.nodes)
        if fetching <= CROWD_COMMITTEE or enough:
            return None
        if self._ranked is None:
            chosen = committee(self._name, self._fetching.nodes)
            self._ranked = [(rank(self._name, node), node) for node in chosen]
        return tuple(node for _, node in self._ranked)

    def draw(self, asker: NodeId, rng: Chance, *, whole_first: bool) -> list[NodeId]:
        whole, fetching = self._whole.nodes, self._fetching.nodes
        drawn: list[NodeId] = []
        if whole_first:
            drawn = rng.sample(whole, min(len(whole), TRACKER_SEEK_MAX_NODES // 2))
            whole = []
        # One more than may be named: the asker may be among them.
        count = min(len(whole) + len(fetching), TRACKER_SEEK_MAX_NODES + 1 - len(drawn))
        for place in rng.sample(range(len(whole) + len(fetching)), count):
            drawn.append(whole[place] if place < len(whole) else fetching[place - len(whole)])
        return [node for node in drawn if node != asker][:TRACKER_SEEK_MAX_NODES]


class _Urn:
    """Nodes to draw from: any one can be taken out without moving all others."""

    def __init__(self) -> None:
        self.nodes: list[NodeId] = []
        self._places: dict[NodeId, int] = {}

    def add(self, node: NodeId) -> None:
        self._places[node] = len(self.nodes)
        self.nodes.append(node)

    def discard(self, node: NodeId) -> None:
        place, last = self._places.pop(node), self.nodes.pop()
        if last != node:
            self.nodes[place] = last
            self._places[last] = place


def merged(swarm: bytes, answers: Sequence[Found]) -> Found:
    """Return what several trackers say together, each of whom knows a part of the swarm.

    Anybody can rank nodes, so of all that are named the same committee comes out everywhere, if
    only one of the trackers knows each.
    """
    whole = dict.fromkeys(node for found in answers for node in found.whole)
    nodes = dict.fromkeys((*whole, *(node for found in answers for node in found.nodes)))
    named = [found.committee for found in answers if found.committee is not None]
    chosen = committee(swarm, dict.fromkeys(node for each in named for node in each))
    return Found(tuple(nodes), tuple(whole), tuple(chosen) if named else None)
