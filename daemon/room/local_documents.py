"""The registry of a room without trackers: kept by every member, in its own state."""

from __future__ import annotations

import asyncio

from blake3 import blake3

from dreamer.daemon.state import CachedRegistry, State
from dreamer.protocol.errors import ConflictError
from dreamer.protocol.ids import RoomId


class LocalDocuments:
    """The document store (``registry_client.DocumentStore``) of one room on this node alone.

    Members that link tell one another what is new: ``registry_exchange``.
    """

    def __init__(self, room: RoomId, state: State) -> None:
        self._room = room
        self._state = state

    async def read(self) -> tuple[bytes, str] | None:
        """Return the document and its ETag; None when there is none yet."""
        cached = await asyncio.to_thread(self._state.registry, self._room)
        return (cached.document, cached.etag) if cached else None

    async def write(self, data: bytes, etag: str | None) -> str:
        """Write if the stored version is still ``etag``; return the new ETag.

        Raises:
            ConflictError: it was written meanwhile.
            LocalError: it can't be kept.
        """
        return await asyncio.to_thread(self._write, data, etag)

    def _write(self, data: bytes, etag: str | None) -> str:
        # Only this process writes, and its ``RegistryClient`` one change at a time.
        cached = self._state.registry(self._room)
        if (cached.etag if cached else None) != etag:
            raise ConflictError("the room's registry was changed meanwhile")
        made = blake3(data).hexdigest()
        self._state.put_registry(self._room, CachedRegistry(made, data))
        return made
