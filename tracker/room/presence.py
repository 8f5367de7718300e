"""How often a member's capabilities are news: each change goes to everybody in the room."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from dreamer.protocol.tracker_limits import TRACKER_PRESENCE_INTERVAL_S
from dreamer.tracker.room.rooms import Guest


class PresencePace:
    """Has each member's change told at once, and the last of any that follow after a rest."""

    def __init__(self, tell: Callable[[Guest], None]) -> None:
        self._tell = tell
        self._resting: dict[Guest, asyncio.TimerHandle] = {}
        self._late: dict[Guest, None] = {}

    def changed(self, guest: Guest) -> None:
        """Tell of a change, now or soon."""
        if guest in self._resting:
            self._late[guest] = None
            return
        self._resting[guest] = asyncio.get_running_loop().call_later(
            TRACKER_PRESENCE_INTERVAL_S, self._rested, guest
        )
        self._tell(guest)

    def forget(self, guest: Guest) -> None:
        """Tell nothing more of a member that has gone."""
        self._late.pop(guest, None)
        if resting := self._resting.pop(guest, None):
            resting.cancel()

    def _rested(self, guest: Guest) -> None:
        del self._resting[guest]
        if guest in self._late:
            del self._late[guest]
            self.changed(guest)
