"""Whom a pull links to, and when it has looked around for long enough.

In a small swarm everybody is linked to all others. In a large one each keeps some links to members
chosen by chance, which makes a net through which a block reaches everybody in a few steps. There a
committee (``committee.py``) fetches what only few have: its members are linked to those first, and
all others leave them alone, or the one seed of a thousand would have lent its links to whoever
came first.

Feed it the answers to ``Seek`` through ``found``, and call ``tick`` at ``next_wake`` and whenever
links come, go or say what they hold.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from dreamer.protocol.ids import NodeId
from dreamer.protocol.limits import (
    CROWD_COMMITTEE,
    CROWD_GATHER_STEP_S,
    DISCOVERY_MAX_S,
    DISCOVERY_REPEAT_S,
    PULL_LINKS_WANTED,
    PULL_WHOLE_LINKS_WANTED,
    SWEEP_INTERVAL_S,
)
from dreamer.protocol.swarm.holders import Chance


class LinksView(Protocol):
    """What is known of this node's links at this moment, as far as they concern the model."""

    def linked(self) -> Collection[NodeId]:
        """Return who is linked, but for those that said that they don't have or fetch it."""
        ...

    def coming_up(self) -> Collection[NodeId]:
        """Return who is being linked to."""
        ...

    @property
    def unanswered(self) -> bool:
        """Whether somebody linked has yet to say what it holds."""
        ...

    @property
    def whole(self) -> Collection[NodeId]:
        """Linked members that hold everything, as they say."""
        ...

    @property
    def deserted(self) -> bool:
        """Whether the committee has brought nothing for so long that it is not waited for."""
        ...


# Commands


@dataclass(frozen=True)
class Seek:
    """Ask who holds the model or fetches it; the answer goes to ``Gathering.found``."""


@dataclass(frozen=True)
class Connect:
    """Link to a member, unless it is linked already or can't be."""

    node: NodeId


@dataclass(frozen=True)
class Part:
    """Give up the link to a member that holds everything, if nothing else needs it.

    There are more who pull than it can be linked to, and others fetch from it for all.
    """

    node: NodeId


@dataclass(frozen=True)
class Named:
    """These hold the model or fetch it, and who of them is the committee (None: nobody said)."""

    nodes: tuple[NodeId, ...]
    committee: tuple[NodeId, ...] | None


@dataclass(frozen=True)
class Ended:
    """All that could be found by now are linked and have answered, or have had their time."""


Command = Seek | Connect | Part | Named | Ended


class Gathering:
    """The search of one pull for others. All times are steady seconds.

    ``least_s``: how long it lasts at least, in which others may begin the same pull. A pull from
    members is not held up by that: it is the origin that waits.
    """

    def __init__(self, own: NodeId, rng: Chance, now: float, least_s: float = 0.0) -> None:
        self._own = own
        self._rng = rng
        self._gathered_at = now + least_s
        self._deadline = max(now + DISCOVERY_MAX_S, self._gathered_at)
        self._waits = least_s > 0
        self._ended = False
        self._last_call = False
        self._seeking = False
        self._seek_at = now
        self._pause_s = CROWD_GATHER_STEP_S
        self._nodes: tuple[NodeId, ...] = ()
        self._whole: tuple[NodeId, ...] = ()
        self._committee: tuple[NodeId, ...] | None = None
        self._heard = False
        self._news = False
        self._parted: dict[NodeId, None] = {}

    def found(
        self,
        nodes: Sequence[NodeId],
        committee: Sequence[NodeId] | None,
        now: float,
        whole: Sequence[NodeId] = (),
    ) -> list[Command]:
        """Take the answer to ``Seek``. ``whole``: those of ``nodes`` that are said to have it all.

        A committee is named only where more fetch than it takes; None elsewhere.
        """
        self._seeking = False
        self._nodes = tuple(node for node in nodes if node != self._own)
        self._whole = tuple(whole)
        self._committee = None if committee is None else tuple(committee)
        self._heard = self._news = True
        self._plan_next(now)
        commands: list[Command] = [Named(self._nodes, self._committee)]
        if self._last_call and not self._ended:
            self._ended = True
            commands.append(Ended())
        return commands

    def tick(self, view: LinksView, now: float) -> list[Command]:
        """Return what to do now."""
        commands: list[Command] = []
        if self._news:
            # Once for each answer: whoever could not be linked is tried again after the next.
            self._news = False
            commands += [Connect(node) for node in self._wanted(view)]
            commands += [Part(node) for node in self._unneeded(view)]
        # Who is only now to be linked to is not coming up yet.
        if not self._ended and not commands and self._settled(view, now):
            commands += self._end(now)
        if not self._seeking and now >= self._seek_at:
            self._seeking = True
            commands.append(Seek())
        return commands

    def next_wake(self, now: float) -> float:
        """Return when the next ``tick`` is due, if nothing happens until then."""
        times = [now] if self._news else []
        if not self._seeking:
            times.append(self._seek_at)
        if not self._ended:
            # Links that come to nothing are no event.
            times.append(now + SWEEP_INTERVAL_S)
        return min(times, default=float("inf"))

    # When

    def _plan_next(self, now: float) -> None:
        if not self._ended and self._waits:
            self._seek_at = now + CROWD_GATHER_STEP_S
            return
        # Often at first: of those that begin at the same moment the earliest hear of nobody yet.
        self._seek_at = now + self._pause_s
        self._pause_s = min(2 * self._pause_s, DISCOVERY_REPEAT_S)

    def _settled(self, view: LinksView, now: float) -> bool:
        if now >= self._deadline:
            return True
        if not self._heard or now < self._gathered_at or view.unanswered:
            return False
        if self._committee is not None and len(view.linked()) >= PULL_LINKS_WANTED // 2:
            # In a crowd there is always somebody new.
            return True
        called = {*self._nodes, *(self._committee or ())}
        return not any(node in called for node in view.coming_up())

    def _end(self, now: float) -> list[Command]:
        if self._waits and not self._last_call and now < self._deadline:
            # Links may have taken long, and whoever has come meanwhile must not be overlooked.
            self._last_call, self._seek_at = True, now
            return []
        if self._last_call and now < self._deadline:
            return []
        self._ended = True
        return [Ended()]

    # Whom

    @property
    def _crowd(self) -> bool:
        """Whether there are too many to be linked to all of them."""
        return self._committee is not None or len(self._nodes) > CROWD_COMMITTEE

    def _leaves_whole_alone(self, view: LinksView) -> bool:
        waits = self._committee is not None and self._own not in self._committee
        return waits and not view.deserted

    def _wanted(self, view: LinksView) -> list[NodeId]:
        """Return whom to link to now."""
        known = {*view.linked(), *view.coming_up()}
        if not self._crowd:
            return _but(self._nodes, known)
        others = _but(self._nodes, {*known, self._own})
        first: list[NodeId] = []
        if self._leaves_whole_alone(view):
            peers = _but(others, self._whole)
            # With nobody else there is no other way to get anything.
            others = peers if peers or known else others
        else:
            there = sum(node in known for node in self._whole)
            whole = [node for node in others if node in self._whole]
            first = self._some(whole, PULL_WHOLE_LINKS_WANTED - there)
        # Half of what it lacks: as many again will call it, who begin at the same moment.
        room = (PULL_LINKS_WANTED - len(known) - len(first) + 1) // 2
        return [*first, *self._some(_but(others, first), room)]

    def _unneeded(self, view: LinksView) -> list[NodeId]:
        """Return whose links this node should give up: each once, it may have reasons to return."""
        linked = view.linked()
        if not self._leaves_whole_alone(view) or all(node in view.whole for node in linked):
            return []
        whole = [node for node in view.whole if node not in self._parted]
        self._parted.update(dict.fromkeys(whole))
        return whole

    def _some(self, nodes: list[NodeId], count: int) -> list[NodeId]:
        return self._rng.sample(nodes, max(0, min(len(nodes), count)))


def _but(nodes: Iterable[NodeId], known: Collection[NodeId]) -> list[NodeId]:
    """Return nodes that are not in a set, each once, in their order."""
    return [node for node in dict.fromkeys(nodes) if node not in known]
