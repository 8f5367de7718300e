"""What this node has yet to upload, and the multipart uploads that it began: facts that last.

A row is written before a model is published and goes when the origin has all of it, so whatever
ends the daemon in between, the next one goes on.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from dreamer.daemon.database import Database
from dreamer.protocol.ids import Digest, ManifestId, RoomId
from dreamer.protocol.origin_limits import UPLOAD_ERROR_MAX_CHARS


@dataclass(frozen=True)
class QueuedUpload:
    """A model that a room's origin is to get.

    ``metadata`` is the object of its torrent, for a model that is public; ``queued_at`` is in epoch
    seconds; ``attempts`` have failed, the last one with ``error``.
    """

    room_id: RoomId
    manifest_id: ManifestId
    name: str
    size_bytes: int
    metadata: Digest | None
    queued_at: float
    attempts: int = 0
    error: str = ""


class UploadQueue:
    """The rows of all rooms. Raises LocalError as ``Database`` does."""

    def __init__(self, database: Database) -> None:
        self._rows = database.rows

    def put(self, item: QueuedUpload) -> None:
        """Keep an upload; one of the same model takes its place."""
        self._rows(
            "INSERT OR REPLACE INTO pending_uploads VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(item.room_id, item.manifest_id, item.name, item.size_bytes, item.metadata),
                *(item.queued_at, item.attempts, item.error[:UPLOAD_ERROR_MAX_CHARS]),
            ),
        )

    def drop(self, room_id: RoomId, manifest_id: ManifestId) -> None:
        """Forget an upload: the origin has it, or nobody wants it."""
        self._rows(
            "DELETE FROM pending_uploads WHERE room_id = ? AND manifest_id = ?",
            (room_id, manifest_id),
        )

    def drop_room(self, room_id: RoomId) -> None:
        """Forget all uploads of a room that this node has left."""
        self._rows("DELETE FROM pending_uploads WHERE room_id = ?", (room_id,))

    def of_room(self, room_id: RoomId) -> list[QueuedUpload]:
        """Return what a room's origin is to get, the oldest first."""
        rows = self._rows(
            "SELECT manifest_id, name, size_bytes, metadata, queued_at, attempts, error "
            "FROM pending_uploads WHERE room_id = ? ORDER BY queued_at, manifest_id",
            (room_id,),
        )
        return [
            QueuedUpload(
                *(room_id, ManifestId(manifest_id), name, size),
                *(None if metadata is None else Digest(metadata), at, attempts, error),
            )
            for manifest_id, name, size, metadata, at, attempts, error in rows
        ]

    def holds(self, manifest_id: ManifestId) -> bool:
        """Say whether any room's origin is to get a model."""
        return bool(
            self._rows("SELECT 1 FROM pending_uploads WHERE manifest_id = ?", (manifest_id,))
        )


class DurableUploads:
    """The ids of multipart uploads to one place, by key (``origin.multipart.BegunUploads``)."""

    def __init__(self, database: Database, place: str) -> None:
        self._rows = database.rows
        # Several origins may have the same keys.
        self._place = place

    def get(self, key: str) -> str | None:
        """Return the id of a key's upload."""
        rows = self._rows(
            "SELECT upload FROM begun_uploads WHERE place = ? AND key = ?", (self._place, key)
        )
        return str(rows[0][0]) if rows else None

    def put(self, key: str, upload: str) -> None:
        """Keep the id of an upload."""
        self._rows(
            "INSERT OR REPLACE INTO begun_uploads VALUES (?, ?, ?, ?)",
            (self._place, key, upload, time.time()),
        )

    def drop(self, key: str) -> None:
        """Forget it."""
        self._rows("DELETE FROM begun_uploads WHERE place = ? AND key = ?", (self._place, key))
