"""What names meant, for as long as nothing that they were looked up in has changed.

A name is looked up in the registries of all rooms, each asked for models whose time is over. That
takes longer than a small graph, and comes to the same for thousands of requests in a row.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from dreamer.daemon.room.session import RoomSession
from dreamer.protocol.offload_limits import OFFLOAD_MEANINGS_KEPT
from dreamer.protocol.registry.view import Model, Verified

Meant = tuple[RoomSession, Model]
"""A model and the room that it is asked for in."""


@dataclass(frozen=True)
class _Meaning:
    """What was found in which registries; at ``until`` (epoch seconds) the first model expires."""

    meant: Meant
    sessions: Sequence[RoomSession]
    read: Sequence[Verified | None]
    until: float


class Meanings:
    """What names meant. ``fresh`` says whether a room's registry needs no reading anew."""

    def __init__(self, fresh: Callable[[RoomSession], bool]) -> None:
        self._fresh = fresh
        self._by_name: dict[str, _Meaning] = {}

    def keep(self, name: str, meant: Meant, sessions: Sequence[RoomSession]) -> None:
        """Keep what a name means, which was looked up in these rooms just now."""
        read = [session.registry.known for session in sessions]
        expiries = [
            model.expires_at
            for known in read
            if known is not None
            for model in known.registry.models.values()
            if model.expires_at is not None
        ]
        if len(self._by_name) >= OFFLOAD_MEANINGS_KEPT:
            self._by_name.clear()
        until = min(expiries, default=math.inf)
        self._by_name[name] = _Meaning(meant, list(sessions), read, until)

    def of(self, name: str, sessions: Sequence[RoomSession], now: float) -> Meant | None:
        """Return what a name still means at ``now`` (epoch seconds); None: look it up."""
        kept = self._by_name.get(name)
        if kept is None or kept.sessions != sessions or now >= kept.until:
            return None
        for session, read in zip(sessions, kept.read, strict=True):
            # It is another one after every change, and none while it is to be judged anew.
            if read is None or session.registry.known is not read or not self._fresh(session):
                return None
        return kept.meant
