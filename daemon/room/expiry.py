"""When a temporary upload ends, this node's copy of it is the first to make room for another."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Iterable
from typing import Protocol

from dreamer.daemon.room.session import RoomSession
from dreamer.protocol.errors import DreamerError
from dreamer.protocol.ids import ManifestId, short
from dreamer.protocol.origin_limits import EXPIRY_LOOK_INTERVAL_S
from dreamer.protocol.registry.view import Registry

log = logging.getLogger(__name__)


class Sessions(Protocol):
    """The part of a ``RoomKeeper`` that is needed."""

    @property
    def sessions(self) -> list[RoomSession]:
        """All rooms of this node."""
        ...


class Uses(Protocol):
    """The part of a ``Store`` that is needed."""

    def used(self, manifest_id: ManifestId, at: float | None = None) -> None:
        """Record when a model was last used."""
        ...


class ExpiryWatch:
    """Of one room; ``run`` until cancelled."""

    def __init__(self, session: RoomSession, rooms: Sessions, store: Uses) -> None:
        self._session = session
        self._rooms = rooms
        self._store = store
        self._told: dict[ManifestId, None] = {}

    async def run(self) -> None:
        """Look whenever the registry changes, and when the next upload ends."""
        changed = asyncio.Event()
        self._session.registry_changed.append(changed.set)
        try:
            while True:
                changed.clear()
                pause_s = await self._look()
                try:
                    async with asyncio.timeout(pause_s):
                        await changed.wait()
                except TimeoutError:
                    continue
        finally:
            self._session.registry_changed.remove(changed.set)

    async def _look(self) -> float:
        """Note what has ended; return after how many seconds to look again."""
        now = time.time()
        known = await self._session.registry.recall()
        if known is None:
            return EXPIRY_LOOK_INTERVAL_S
        registry = known.registry.as_of(now)
        for manifest_id in registry.expired:
            if manifest_id not in self._told and not await self._elsewhere(manifest_id, now):
                self._told[manifest_id] = None
                await self._let_go(manifest_id)
        for manifest_id in [one for one in self._told if one not in registry.expired]:
            del self._told[manifest_id]
        return _pause_s(registry, now)

    async def _elsewhere(self, manifest_id: ManifestId, now: float) -> bool:
        """Return whether another room has the model, or this one has it again."""
        for session in self._rooms.sessions:
            known = await session.registry.recall()
            if known is not None and manifest_id in known.registry.as_of(now).models:
                return True
        return False

    async def _let_go(self, manifest_id: ManifestId) -> None:
        try:
            # Longest ago of all: the first that the store gives up when it needs room.
            await asyncio.to_thread(self._store.used, manifest_id, 0.0)
        except DreamerError as error:
            log.warning("%s has expired and can't be marked so: %s", short(manifest_id), error)


def _pause_s(registry: Registry, now: float) -> float:
    ends: Iterable[float] = (
        model.expires_at - now for model in registry.models.values() if model.expires_at is not None
    )
    # Not longer: the clock may be set, or the machine sleep.
    return max(0.05, min((*ends, EXPIRY_LOOK_INTERVAL_S)))
