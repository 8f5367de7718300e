"""Fills the library with the models that the store holds, and takes damaged ones out."""

from __future__ import annotations

import asyncio
import logging

from dreamer.daemon.sharing.library import Library
from dreamer.daemon.state import State
from dreamer.daemon.store.store import Store
from dreamer.protocol.errors import DreamerError
from dreamer.protocol.ids import ManifestId, RoomId, short
from dreamer.protocol.swarm import bitfield

log = logging.getLogger(__name__)


class Shelves:
    """The link between what is on disk and what is offered."""

    def __init__(self, store: Store, state: State, library: Library) -> None:
        self._store = store
        self._state = state
        self._library = library

    async def fill(self, room: RoomId) -> None:
        """Offer in a room every model of it that is whole here."""
        for held in self._state.models(room):
            try:
                await self._offer(room, held.manifest_id)
            except DreamerError as error:
                log.error("can't offer %s: %s", held.name, error)

    async def check(self, manifest_id: ManifestId) -> None:
        """Look at a model again; withdraw it when a file is missing or damaged."""
        manifest = await asyncio.to_thread(self._store.manifest, manifest_id)
        if manifest is not None and await asyncio.to_thread(self._store.complete, manifest):
            return
        log.error("%s is damaged on disk and not offered: pull it again", short(manifest_id))
        self._library.withdraw_everywhere(manifest_id)

    async def _offer(self, room: RoomId, manifest_id: ManifestId) -> None:
        manifest = await asyncio.to_thread(self._store.manifest, manifest_id)
        if manifest is None or not await asyncio.to_thread(self._store.complete, manifest):
            log.warning("%s is not whole on disk: pull it again", short(manifest_id))
            return
        everything = bitfield.full(manifest.block_count)
        self._library.offer(room, manifest_id, manifest, everything)
