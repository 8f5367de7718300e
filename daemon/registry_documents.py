"""Where a room's registry is kept: at the tracker."""

from __future__ import annotations

from collections.abc import Sequence

from dreamer.daemon.rendezvous.session import TrackerSession
from dreamer.protocol.errors import RemoteError
from dreamer.protocol.limits import TRACKER_CONNECT_TIMEOUT_S
from dreamer.protocol.rooms.card import RoomCard


class TrackerDocuments:
    """The document store (``daemon.registry.DocumentStore``) of a room without S3 registry.

    All nodes must write to the same place, so it is always the first of the room's trackers.
    """

    def __init__(self, card: RoomCard, sessions: Sequence[TrackerSession]) -> None:
        self._card = card
        self._sessions = sessions

    async def read(self) -> tuple[bytes, str] | None:
        """Return the document and its ETag; None when there is none yet.

        Raises:
            RemoteError: the tracker can't be reached.
        """
        return await (await self._keeper()).read_registry()

    async def write(self, data: bytes, etag: str | None) -> str:
        """Write if the stored version is still ``etag``; return the new ETag.

        Raises:
            ConflictError: somebody else wrote first.
            RemoteError: the tracker can't be reached.
        """
        return await (await self._keeper()).write_registry(data, etag)

    async def _keeper(self) -> TrackerSession:
        if not self._sessions:
            raise RemoteError(f"room {self._card.name} has no tracker to keep its registry")
        keeper = self._sessions[0]
        # A command given right after the start must not fail for being quicker than the login.
        await keeper.first_attempt(TRACKER_CONNECT_TIMEOUT_S)
        if not keeper.connected:
            reason = keeper.last_error or "it is not connected yet"
            raise RemoteError(
                f"can't reach the tracker of room {self._card.name} ({reason}): check that "
                f"dreamer-tracker runs at {self._card.trackers[0]}"
            )
        return keeper
