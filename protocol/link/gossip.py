"""Finding one another without a tracker: linked members pass on news, signals and questions.

========  ==========================================================================
message   what a node does with it
========  ==========================================================================
Around    learns whom the neighbour reaches (``routes``), and tells its other neighbours
Pass      for itself: hands the signal to its links; else sends it one link nearer
Seek      answers with itself if it holds the model; asks its other neighbours too
Held      sends it back the way that the question came
========  ==========================================================================

Whatever is passed on is as little to be believed as a tracker's word: the handshake of a link
shows who is at its other end. All of it is bounded for each neighbour, in rate, size and number of
links on the way. Only who says ``GOSSIP`` in its capabilities is sent any of this, since older
versions close a link over a message that they don't know.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field

from dreamer.protocol import canonical
from dreamer.protocol.canonical import Json
from dreamer.protocol.errors import InputError, RemoteProtocolError
from dreamer.protocol.ids import ManifestId, NodeId
from dreamer.protocol.limits import (
    GOSSIP_HELD_PER_LINK,
    GOSSIP_MAX_HOPS,
    GOSSIP_NEWS_BURST,
    GOSSIP_NEWS_PER_S,
    GOSSIP_NEWS_PER_TICK,
    GOSSIP_NEWS_TO_ALL_PER_TICK,
    GOSSIP_SEEK_HOPS,
    GOSSIP_SEEKS_BURST,
    GOSSIP_SEEKS_PASSED_ON_BURST,
    GOSSIP_SEEKS_PASSED_ON_PER_S,
    GOSSIP_SEEKS_PER_S,
    GOSSIP_SEEKS_REMEMBERED,
    GOSSIP_SIGNAL_MAX_BYTES,
    GOSSIP_SIGNALS_BURST,
    GOSSIP_SIGNALS_PER_S,
    GOSSIP_SIGNALS_TO_BURST,
    GOSSIP_SIGNALS_TO_PER_S,
)
from dreamer.protocol.link.allowance import Allowance
from dreamer.protocol.link.messages import Around, Held, Message, Pass, Seek
from dreamer.protocol.link.routes import Routes
from dreamer.protocol.tracker_limits import TRACKER_SEEK_MAX_NODES

GOSSIP = "gossip"
"""The capability (with a whole number from 1) that says: I understand these messages."""

REQUEST_BYTES = 16


@dataclass(frozen=True)
class Tell:
    """Send a message over the link to this neighbour."""

    peer: NodeId
    message: Message


@dataclass(frozen=True)
class Deliver:
    """A signal for us, from the member ``origin``, or so it is said."""

    origin: NodeId
    body: Json


@dataclass(frozen=True)
class Found:
    """The answer to a question of ours: ``node`` holds or fetches the model."""

    request: bytes
    node: NodeId


GossipCommand = Tell | Deliver | Found


@dataclass
class _Allowances:
    """How much of each kind one neighbour may have us do."""

    news: Allowance = field(default_factory=lambda: Allowance(GOSSIP_NEWS_PER_S, GOSSIP_NEWS_BURST))
    signals_from: Allowance = field(
        default_factory=lambda: Allowance(GOSSIP_SIGNALS_PER_S, GOSSIP_SIGNALS_BURST)
    )
    signals_to: Allowance = field(
        default_factory=lambda: Allowance(GOSSIP_SIGNALS_TO_PER_S, GOSSIP_SIGNALS_TO_BURST)
    )
    signals_for_us: Allowance = field(
        default_factory=lambda: Allowance(GOSSIP_SIGNALS_TO_PER_S, GOSSIP_SIGNALS_TO_BURST)
    )
    seeks: Allowance = field(
        default_factory=lambda: Allowance(GOSSIP_SEEKS_PER_S, GOSSIP_SEEKS_BURST)
    )
    # Fewer than it may ask: one that floods must not use up what the next node takes from us.
    seeks_passed_on: Allowance = field(
        default_factory=lambda: Allowance(
            GOSSIP_SEEKS_PASSED_ON_PER_S, GOSSIP_SEEKS_PASSED_ON_BURST
        )
    )


@dataclass
class _Question:
    """Who asked it (None: we did), and over which link each answer came (None: ours)."""

    asker: NodeId | None
    answers: dict[NodeId, NodeId | None] = field(default_factory=dict)

    def takes(self, node: NodeId, source: NodeId | None) -> bool:
        """Return whether an answer is new, and neither all nor this link's have been given."""
        # One that makes up holders must leave room for those that others name.
        from_there = sum(each == source for each in self.answers.values())
        return (
            node not in self.answers
            and len(self.answers) < TRACKER_SEEK_MAX_NODES
            and from_there < GOSSIP_HELD_PER_LINK
        )


class Gossip:
    """One node's part in the gossip of one room; ``holds`` says whether it has a model."""

    def __init__(self, ours: NodeId, holds: Callable[[ManifestId], bool]) -> None:
        self.routes = Routes(ours)
        self._ours = ours
        self._holds = holds
        self._allowances: dict[NodeId, _Allowances] = {}
        self._questions: OrderedDict[bytes, _Question] = OrderedDict()
        self._turns: OrderedDict[NodeId, int] = OrderedDict()
        self._told = 0

    def linked(self, peer: NodeId, capabilities: Json) -> None:
        """Note that a member is linked, or can do other things now."""
        version = capabilities.get(GOSSIP)
        if type(version) is int and version >= 1:
            self._allowances.setdefault(peer, _Allowances())
            self.routes.linked(peer, canonical.dumps(capabilities))

    def unlinked(self, peer: NodeId) -> None:
        """Note that a link is gone."""
        self._allowances.pop(peer, None)
        self.routes.unlinked(peer)

    def tick(self) -> list[GossipCommand]:
        """Tell every neighbour what is new; call it once a second or so."""
        self.routes.tick()
        commands: list[GossipCommand] = []
        neighbours = self.routes.neighbours
        # So many at once and no more, or a hub of a large room stands still meanwhile; whoever
        # is not reached is the first to be told next time.
        for number, peer in enumerate(neighbours[self._told :] + neighbours[: self._told]):
            if len(commands) >= GOSSIP_NEWS_TO_ALL_PER_TICK:
                self._told = (self._told + number) % len(neighbours)
                break
            commands += self._news(peer)
        return commands

    def _news(self, peer: NodeId) -> list[GossipCommand]:
        commands: list[GossipCommand] = []
        while len(commands) < GOSSIP_NEWS_PER_TICK and (news := self.routes.news(peer)) is not None:
            commands.append(Tell(peer, Around(news)))
        return commands

    def signal(self, target: NodeId, body: Json) -> list[GossipCommand]:
        """Send a signal to a member over its neighbours; no command: there is no way.

        One after the other, if several are tried: a neighbour that swallows signals is passed by.
        """
        data = canonical.dumps(body)
        way = self._way(target, self.routes.ways(target))
        if way is None or len(data) > GOSSIP_SIGNAL_MAX_BYTES:
            return []
        return [Tell(way, Pass(self._ours, target, GOSSIP_MAX_HOPS, data))]

    def _way(self, target: NodeId, ways: list[NodeId]) -> NodeId | None:
        """Return the neighbour whose turn it is to take a signal for ``target``.

        Whoever carries signals takes turns as well as who sends them: a liar that is linked with
        everybody, and says that all others are, would else be everybody's nearest way.
        """
        if target in ways or not ways:
            return target if ways else None
        turn = self._turns.pop(target, 0)
        self._turns[target] = turn + 1
        if len(self._turns) > GOSSIP_SEEKS_REMEMBERED:
            self._turns.popitem(last=False)
        return ways[turn % len(ways)]

    def seek(self, request: bytes, manifest_id: ManifestId) -> list[GossipCommand]:
        """Ask who holds a model; ``Found`` follows for each answer. ``request`` is random."""
        self._remember(request, None)
        question = Seek(request, manifest_id, GOSSIP_SEEK_HOPS)
        return [Tell(peer, question) for peer in self.routes.neighbours]

    def hear(self, peer: NodeId, message: Message, now: float) -> list[GossipCommand]:
        """Take a neighbour's message; others than the four of gossip are none of ours.

        Raises:
            RemoteProtocolError: it breaks a rule that it must know.
        """
        allowed = self._allowances.get(peer)
        if allowed is None:
            return []
        match message:
            case Around(news):
                if not allowed.news.take(now):
                    raise RemoteProtocolError("it gossips without end")
                self.routes.hear(peer, news)
            case Pass():
                return self._pass(peer, message, allowed, now)
            case Seek():
                return self._answer(peer, message, allowed, now)
            case Held(request, node):
                return self._held(request, NodeId(node), peer)
        return []

    def _pass(
        self, peer: NodeId, said: Pass, allowed: _Allowances, now: float
    ) -> list[GossipCommand]:
        _check_hops(said.hops, GOSSIP_MAX_HOPS)
        if len(said.body) > GOSSIP_SIGNAL_MAX_BYTES:
            raise RemoteProtocolError(f"a signal of {len(said.body)} bytes to pass on")
        target, origin = NodeId(said.target), NodeId(said.origin)
        if origin == self._ours:
            return []
        if target == self._ours:
            return _delivered(origin, said.body) if allowed.signals_for_us.take(now) else []
        if said.hops <= 1 or not allowed.signals_from.take(now):
            return []
        ways = [way for way in self.routes.ways(target) if way not in (peer, origin)]
        way = self._way(target, ways)
        if way is None or not self._allowances[way].signals_to.take(now):
            return []
        return [Tell(way, Pass(origin, target, said.hops - 1, said.body))]

    def _answer(
        self, peer: NodeId, said: Seek, allowed: _Allowances, now: float
    ) -> list[GossipCommand]:
        _check_hops(said.hops, GOSSIP_SEEK_HOPS)
        if len(said.request) != REQUEST_BYTES:
            raise RemoteProtocolError("a question without a proper name")
        # The same question comes over every link that it went round.
        if said.request in self._questions or not allowed.seeks.take(now):
            return []
        self._remember(said.request, peer)
        commands: list[GossipCommand] = []
        if self._holds(ManifestId(said.manifest)):
            commands += self._held(said.request, self._ours, None)
        if said.hops > 1 and allowed.seeks_passed_on.take(now):
            further = Seek(said.request, said.manifest, said.hops - 1)
            commands += [Tell(one, further) for one in self.routes.neighbours if one != peer]
        return commands

    def _held(self, request: bytes, node: NodeId, source: NodeId | None) -> list[GossipCommand]:
        question = self._questions.get(request)
        if question is None or not question.takes(node, source):
            return []
        question.answers[node] = source
        if question.asker is None:
            return [Found(request, node)]
        return [Tell(question.asker, Held(request, node))]

    def _remember(self, request: bytes, asker: NodeId | None) -> None:
        self._questions[request] = _Question(asker)
        if len(self._questions) > GOSSIP_SEEKS_REMEMBERED:
            self._questions.popitem(last=False)


def _check_hops(hops: int, at_most: int) -> None:
    if not 1 <= hops <= at_most:
        raise RemoteProtocolError(f"a message to be passed on over {hops} links")


def _delivered(origin: NodeId, data: bytes) -> list[GossipCommand]:
    try:
        return [Deliver(origin, canonical.loads_lenient(data))]
    except InputError:
        # Who passed it on need not have read it: it costs him nothing, and is dropped.
        return []
