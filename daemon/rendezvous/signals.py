"""Handing a signal to a member by any way there is: one tracker after the other, then gossip."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dreamer.daemon.rendezvous.session import TrackerSession
from dreamer.daemon.room.presence import Presence
from dreamer.daemon.tasks import TaskSet
from dreamer.protocol.canonical import Json
from dreamer.protocol.errors import InputError, RemoteError
from dreamer.protocol.ids import NodeId
from dreamer.protocol.limits import SIGNALS_REMEMBERED


@dataclass
class _OnItsWay:
    """A signal, the tracker that has it now, and those that are left to be tried."""

    body: Json
    left: list[TrackerSession]
    turn: int
    at: TrackerSession | None = None


class Signals:
    """The signals that this node sends in one room.

    ``pass_on`` gives one to linked members, and returns whether any of them knows a way;
    ``give_up`` hears of a member that no signal reaches.
    """

    def __init__(
        self,
        sessions: Sequence[TrackerSession],
        presence: Presence,
        pass_on: Callable[[NodeId, Json], bool],
        give_up: Callable[[NodeId], None],
        tasks: TaskSet,
    ) -> None:
        self._sessions = sessions
        self._presence = presence
        self._pass_on = pass_on
        self._give_up = give_up
        self._tasks = tasks
        self._sent: OrderedDict[NodeId, _OnItsWay] = OrderedDict()

    def send(self, peer: NodeId, body: Json) -> None:
        """Hand over a signal; the one before, to the same member, counts no more."""
        before = self._sent.pop(peer, None)
        turn = before.turn + 1 if before else 0
        signal = self._sent[peer] = _OnItsWay(body, self._ways(peer, turn), turn)
        if len(self._sent) > SIGNALS_REMEMBERED:
            self._sent.popitem(last=False)
        self._tasks.start(self._try_next(peer, signal))

    def unreachable(self, tracker: str, peer: NodeId) -> None:
        """Note that a tracker could not pass the signal on: try the next way."""
        signal = self._sent.get(peer)
        # What is said of an earlier signal doesn't concern the one that is on its way now.
        if signal is not None and signal.at is not None and signal.at.url == tracker:
            self._tasks.start(self._try_next(peer, signal))

    def _ways(self, peer: NodeId, turn: int) -> list[TrackerSession]:
        """Return first the trackers where the member is, then the others: presence may be old.

        Each signal begins with another of the first: one that hangs takes signals without a word.
        """
        places = self._presence.trackers_of(peer)
        connected = [session for session in self._sessions if session.connected]
        there = [session for session in connected if session.url in places]
        others = [session for session in connected if session.url not in places]
        first = turn % len(there) if there else 0
        return there[first:] + there[:first] + others

    async def _try_next(self, peer: NodeId, signal: _OnItsWay) -> None:
        while signal.left:
            signal.at = signal.left.pop(0)
            try:
                await signal.at.signal(peer, signal.body)
            except (RemoteError, InputError):
                continue
            return
        signal.at = None
        if self._sent.get(peer) is signal:
            del self._sent[peer]
            # Whether it arrives then isn't told; an attempt that takes too long fails by itself.
            if not self._pass_on(peer, signal.body):
                self._give_up(peer)
