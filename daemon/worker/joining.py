"""Joins a room at the start with an invitation that the node was given."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable
from random import Random
from typing import Protocol

from dreamer.daemon.ports import RoomInfo
from dreamer.daemon.worker.secrets_given import Invitation
from dreamer.protocol.cache_limits import PRELOAD_RETRY_BASE_S, PRELOAD_RETRY_MAX_S
from dreamer.protocol.errors import DreamerError
from dreamer.protocol.rooms.token import decode_token

log = logging.getLogger(__name__)


class Rooms(Protocol):
    """The rooms of a node."""

    def infos(self) -> Iterable[RoomInfo]:
        """Return the rooms it is in."""
        ...

    async def join(self, token: str) -> RoomInfo:
        """Become a member."""
        ...


class Joining:
    """Tries until the node is a member; ``error`` says why it isn't one yet."""

    def __init__(
        self,
        rooms: Rooms,
        invitation: Invitation,
        rng: Random,
        changed: Callable[[], None] = lambda: None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._rooms = rooms
        self._invitation = invitation
        self._rng = rng
        self._changed = changed
        self._sleep = sleep
        self.done = False
        self.failures = 0
        self.error: DreamerError | None = None

    async def run(self) -> None:
        """Join; returns once this node is in the room, or at once if it has no invitation."""
        while not self.done:
            try:
                await self._try()
                self.done, self.error = True, None
            except DreamerError as error:
                self.failures += 1
                self.error = error
                log.warning("can't join the room of this node's invitation: %s", error)
                self._changed()
                most = PRELOAD_RETRY_BASE_S * 2 ** min(self.failures - 1, 16)
                await self._sleep(min(PRELOAD_RETRY_MAX_S, most) * self._rng.uniform(0.5, 1.0))

    async def _try(self) -> None:
        # Read anew each time: a secret that is mounted may be replaced by a fresh one.
        token = await asyncio.to_thread(self._invitation.read)
        if not token:
            return
        room_id = decode_token(token).card.room_id.hex()
        if any(room.room_id == room_id for room in self._rooms.infos()):
            return
        room = await self._rooms.join(token)
        log.info("joined room %s as %s", room.name, ", ".join(room.roles))
