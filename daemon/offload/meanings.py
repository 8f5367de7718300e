"""What names meant, for as long as nothing that they were looked up in has changed.

A name is looked up in the registries of all rooms, each asked for models whose time is over. That
takes longer than a small graph, and comes to the same for thousands of requests in a row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import is_

from dreamer.daemon.room.session import RoomSession
from dreamer.protocol.offload_limits import OFFLOAD_MEANINGS_KEPT
from dreamer.protocol.registry.view import Model, Verified

Meant = tuple[RoomSession, Model]
"""A model and the room that it is asked for in."""


@dataclass(frozen=True)
class KnownRooms:
    """Some rooms, and what was known of each: None of one that is to be judged anew."""

    sessions: Sequence[RoomSession] = ()
    known: Sequence[Verified | None] = ()

    @classmethod
    def now(cls, sessions: Sequence[RoomSession]) -> KnownRooms:
        """Return what is known of these at this moment."""
        return cls(list(sessions), [session.registry.known for session in sessions])

    @property
    def still(self) -> bool:
        """Whether all of it was known, and is what is known now: after a change it is another."""
        pairs = zip(self.sessions, self.known, strict=True)
        return all(
            known is not None and session.registry.known is known for session, known in pairs
        )

    def same(self, other: KnownRooms) -> bool:
        """Say whether these are the same registries; their contents are not compared."""
        return self.sessions == other.sessions and all(map(is_, self.known, other.known))

    def until(self) -> float:
        """Return when the first of their models expires, in epoch seconds."""
        return min(
            (
                model.expires_at
                for known in self.known
                if known is not None
                for model in known.registry.models.values()
                if model.expires_at is not None
            ),
            default=math.inf,
        )


class Meanings:
    """What names meant. ``fresh`` says whether a room's registry needs no reading anew.

    All were looked up in the same registries, so no more than one of each room is held in memory.
    """

    def __init__(self, fresh: Callable[[RoomSession], bool]) -> None:
        self._fresh = fresh
        self._in = KnownRooms()
        self._until = math.inf
        self._by_name: dict[str, Meant] = {}

    def keep(self, name: str, meant: Meant, before: KnownRooms) -> None:
        """Keep what a name means; ``before`` is what was known when it began to be looked up."""
        if not before.still:
            # One room may have changed while another was read, after it was asked.
            return
        if not before.same(self._in) or len(self._by_name) >= OFFLOAD_MEANINGS_KEPT:
            self._by_name.clear()
            self._in, self._until = before, before.until()
        self._by_name[name] = meant

    def of(self, name: str, sessions: Sequence[RoomSession], now: float) -> Meant | None:
        """Return what a name still means at ``now`` (epoch seconds); None: look it up."""
        meant = self._by_name.get(name)
        if meant is None:
            return None
        if self._in.sessions != sessions or now >= self._until or not self._in.still:
            self._by_name.clear()
            self._in = KnownRooms()
            return None
        return meant if all(map(self._fresh, sessions)) else None
