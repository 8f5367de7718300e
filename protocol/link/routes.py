"""Which members can be reached over links alone, and over which neighbour: distance vectors.

Every node tells each neighbour whom it reaches and over how many links; a neighbour is a member
that it is linked to. What is learned from a neighbour is one link farther away than the neighbour
says. Two rules keep news of a lost node from going round in circles for long, as in RIP (RFC
2453): nobody is told of a way that leads through itself, and what is farther than
``GOSSIP_MAX_HOPS`` counts as lost.

Everything but the neighbours themselves is hearsay: a member that lies can have signals sent to
nowhere, or make up members. The handshake of a link finds out who really is at its other end.
Two more rules keep what one liar can do small: who is vouched for (a tracker reported it, or it was
linked) displaces whoever is only hearsay once the tables are full, and news beyond what a room can
need is learned slowly, the latest word on each node only, so that flipping costs nobody else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from dreamer.protocol import canonical
from dreamer.protocol.canonical import Json
from dreamer.protocol.errors import InputError, RemoteProtocolError
from dreamer.protocol.ids import NodeId, from_hex
from dreamer.protocol.limits import (
    GOSSIP_CAPABILITIES_MAX_BYTES,
    GOSSIP_CAPABILITIES_PER_LINK_BYTES,
    GOSSIP_CHANGES_BURST,
    GOSSIP_CHANGES_PER_TICK,
    GOSSIP_MAX_HOPS,
    GOSSIP_MAX_NODES,
    GOSSIP_NEWS_MAX_BYTES,
)

_GONE = 0


@dataclass(frozen=True)
class Told:
    """A node is ``hops`` links away from whoever says so; 0: it can't be reached any more.

    ``capabilities`` is canonical JSON, empty when it is unknown or too large to pass on.
    """

    node: NodeId
    hops: int
    capabilities: bytes = b""


@dataclass
class _Neighbour:
    """What one neighbour says (``heard``), and what it has been told.

    ``waiting`` is what it says beyond ``changes_left``: the latest word on each node.
    """

    heard: dict[NodeId, Told]
    waiting: dict[NodeId, Told] = field(default_factory=dict)
    changes_left: int = GOSSIP_CHANGES_BURST
    told: dict[NodeId, Told] = field(default_factory=dict)
    untold: dict[NodeId, None] = field(default_factory=dict)
    capabilities_bytes: int = 0


class Routes:
    """The ways that one node knows in one room."""

    def __init__(self, ours: NodeId) -> None:
        self._ours = ours
        self._neighbours: dict[NodeId, _Neighbour] = {}
        # By how many neighbours each node is reached: that it is known doesn't take a search.
        self._known: dict[NodeId, int] = {}
        # Both are worked out when they are asked for: a change may concern a thousand nodes.
        self._nearest: dict[NodeId, NodeId] = {}
        self._shown: dict[NodeId, Json] | None = None
        self._vouched: dict[NodeId, None] = {}

    @property
    def neighbours(self) -> list[NodeId]:
        """The members that are linked, in the order in which their links came up."""
        return list(self._neighbours)

    def known(self) -> dict[NodeId, Json]:
        """Return the members that can be reached, with what they are said to be capable of."""
        if self._shown is None:
            self._shown = {node: _readable(self._best(node).capabilities) for node in self._known}
        return self._shown

    def knows(self, node: NodeId) -> bool:
        """Return whether there is a way to a member."""
        return node in self._known

    def ways(self, node: NodeId) -> list[NodeId]:
        """Return the neighbours over which a member can be reached, the nearest to it first."""
        found = [
            (neighbour.heard[node].hops, peer)
            for peer, neighbour in self._neighbours.items()
            if node in neighbour.heard
        ]
        return [peer for _, peer in sorted(found)]

    @property
    def vouched(self) -> list[NodeId]:
        """The members that can be reached and that not only gossip knows of."""
        return [node for node in self._known if node in self._vouched]

    def vouch(self, nodes: Iterable[NodeId]) -> None:
        """Note nodes as members: a tracker reports them, or they have proved it on a link.

        They stay so when the tracker is lost: that is when it counts.
        """
        self._vouched.update(dict.fromkeys(nodes))
        while len(self._vouched) > 2 * GOSSIP_MAX_NODES:
            del self._vouched[next(iter(self._vouched))]

    def linked(self, peer: NodeId, capabilities: bytes) -> None:
        """Note that a link is up, or that a neighbour's capabilities have changed."""
        self.vouch([peer])
        neighbour = self._neighbours.get(peer)
        if neighbour is None:
            neighbour = self._neighbours[peer] = _Neighbour({})
            neighbour.untold = dict.fromkeys(self._known)
        self._learn(neighbour, Told(peer, 1, _short(capabilities)))

    def unlinked(self, peer: NodeId) -> None:
        """Note that a link is gone, and with it every way that led over it."""
        neighbour = self._neighbours.pop(peer, None)
        if neighbour is not None:
            for node in neighbour.heard:
                self._forget(node)

    def hear(self, peer: NodeId, data: bytes) -> None:
        """Take the news of a neighbour.

        Raises:
            RemoteProtocolError: it has no form that we know.
        """
        neighbour = self._neighbours.get(peer)
        if neighbour is None:
            return
        for told in _parse(data):
            if told.node not in (self._ours, peer):
                neighbour.waiting[told.node] = told
        self._learn_waiting(neighbour)
        while len(neighbour.waiting) > GOSSIP_CHANGES_BURST:
            del neighbour.waiting[next(iter(neighbour.waiting))]

    def tick(self) -> None:
        """Learn some of what waits; call it once a second or so."""
        for neighbour in self._neighbours.values():
            left = neighbour.changes_left + GOSSIP_CHANGES_PER_TICK
            neighbour.changes_left = min(left, GOSSIP_CHANGES_BURST)
            self._learn_waiting(neighbour)

    def news(self, peer: NodeId) -> bytes | None:
        """Return what a neighbour is yet to be told, as much as one message takes; None: nothing.

        It counts as told from then on.
        """
        neighbour = self._neighbours[peer]
        entries: list[list[object]] = []
        size_bytes = 0
        while neighbour.untold and size_bytes < GOSSIP_NEWS_MAX_BYTES // 2:
            node = next(iter(neighbour.untold))
            del neighbour.untold[node]
            told = self._for(peer, node)
            if told == neighbour.told.get(node, Told(node, _GONE)):
                continue
            if told.hops == _GONE:
                del neighbour.told[node]
            else:
                neighbour.told[node] = told
            entries.append([node.hex(), told.hops, _readable(told.capabilities)])
            size_bytes += 2 * len(node) + len(told.capabilities) + 16
        return canonical.dumps({"nodes": entries}) if entries else None

    def _for(self, peer: NodeId, node: NodeId) -> Told:
        """Return what a neighbour may know of a node."""
        best = self._best(node) if node in self._known else Told(node, _GONE)
        # It reaches itself, and nobody is sent back to where he comes from.
        if node == peer or best.hops >= GOSSIP_MAX_HOPS or self._nearest.get(node) == peer:
            return Told(node, _GONE)
        return best

    def _best(self, node: NodeId) -> Told:
        if node not in self._nearest:
            self._nearest[node] = self.ways(node)[0]
        return self._neighbours[self._nearest[node]].heard[node]

    def _learn_waiting(self, neighbour: _Neighbour) -> None:
        while neighbour.waiting and neighbour.changes_left > 0:
            neighbour.changes_left -= 1
            told = neighbour.waiting.pop(next(iter(neighbour.waiting)))
            hops = told.hops + 1
            if told.hops == _GONE or hops > GOSSIP_MAX_HOPS:
                self._unlearn(neighbour, told.node)
            else:
                self._learn(neighbour, Told(told.node, hops, told.capabilities))

    def _learn(self, neighbour: _Neighbour, told: Told) -> None:
        old = neighbour.heard.get(told.node)
        if old is None and told.hops > 1 and not self._make_room(neighbour, told.node):
            return
        fits = neighbour.capabilities_bytes + len(told.capabilities)
        if old is not None:
            fits -= len(old.capabilities)
        if fits > GOSSIP_CAPABILITIES_PER_LINK_BYTES:
            fits, told = fits - len(told.capabilities), Told(told.node, told.hops)
        neighbour.capabilities_bytes = fits
        neighbour.heard[told.node] = told
        if old is None:
            self._known[told.node] = self._known.get(told.node, 0) + 1
        if told != old:
            self._changed(told.node)

    def _make_room(self, neighbour: _Neighbour, node: NodeId) -> bool:
        """Return whether there is room for another node, after letting hearsay go for a member."""
        # A member could otherwise make up others without end, and keep real ones out with them.
        if len(neighbour.heard) >= GOSSIP_MAX_NODES:
            other = self._hearsay(neighbour.heard) if node in self._vouched else None
            if other is None:
                return False
            self._unlearn(neighbour, other)
        if node not in self._known and len(self._known) >= GOSSIP_MAX_NODES:
            other = self._hearsay(self._known) if node in self._vouched else None
            if other is None:
                return False
            for each in self._neighbours.values():
                self._unlearn(each, other)
        return True

    def _hearsay(self, nodes: Iterable[NodeId]) -> NodeId | None:
        """Return one that nobody vouches for; neighbours are vouched for always."""
        out_of = (n for n in nodes if n not in self._vouched and n not in self._neighbours)
        return next(out_of, None)

    def _unlearn(self, neighbour: _Neighbour, node: NodeId) -> None:
        if (old := neighbour.heard.pop(node, None)) is not None:
            neighbour.capabilities_bytes -= len(old.capabilities)
            self._forget(node)

    def _forget(self, node: NodeId) -> None:
        self._known[node] -= 1
        if not self._known[node]:
            del self._known[node]
        self._changed(node)

    def _changed(self, node: NodeId) -> None:
        self._nearest.pop(node, None)
        self._shown = None
        for neighbour in self._neighbours.values():
            neighbour.untold[node] = None


def _short(capabilities: bytes) -> bytes:
    return capabilities if len(capabilities) <= GOSSIP_CAPABILITIES_MAX_BYTES else b""


def _readable(capabilities: bytes) -> Json:
    return canonical.loads_lenient(capabilities) if capabilities else {}


def _parse(data: bytes) -> Iterator[Told]:
    """Read the canonical JSON ``{"nodes": [[node, hops, capabilities], …]}``."""
    if len(data) > GOSSIP_NEWS_MAX_BYTES:
        raise RemoteProtocolError(f"{len(data)} bytes of gossip at once")
    try:
        entries = canonical.loads_lenient(data).get("nodes")
        if not isinstance(entries, list):
            raise InputError("no list of nodes")
        # All of it is read before any of it counts.
        return iter([_told(entry) for entry in entries])
    except InputError as error:
        raise RemoteProtocolError(f"gossip that can't be read: {error}") from error


def _told(entry: object) -> Told:
    match entry:
        case [str(node), int(hops), dict(capabilities)] if 0 <= hops <= GOSSIP_MAX_HOPS:
            said = canonical.dumps(capabilities) if capabilities else b""
            return Told(NodeId(from_hex(node, "a node")), hops, _short(said))
    raise InputError("a node that is not [id, hops, capabilities]")
