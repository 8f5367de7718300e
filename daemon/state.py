"""The node's durable facts, in one SQLite file that only this module touches.

Content is not here but in the store's files, and can be found again by its hashes: a lost database
costs re-verification and the record of the past. Every method takes well under a millisecond
or a few, so the event loop may call it; a lock lets threads call too.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dreamer.daemon.database import Database
from dreamer.protocol.ids import Digest, ManifestId, NodeId, RoomId
from dreamer.protocol.relay_budget import Usage


@dataclass(frozen=True)
class Stamp:
    """How a file looked when its content was last verified."""

    size_bytes: int
    mtime_ns: int


@dataclass(frozen=True)
class HeldModel:
    """A model this node pulled or pushed, as one room names it. Times: epoch seconds."""

    manifest_id: ManifestId
    room_id: RoomId
    name: str
    path: Path
    at: float
    last_used: float


@dataclass(frozen=True)
class CachedRegistry:
    """The registry document of a room as last read, and its ETag."""

    etag: str
    document: bytes


@dataclass(frozen=True)
class Ban:
    """A node not to be dealt with until ``until`` (epoch seconds)."""

    node_id: NodeId
    until: float
    reason: str


class State:
    """``state.db``; made when it is not there.

    Raises:
        LocalError: from any method: the file is damaged, made by a newer Dreamer, locked by
            another program, or the disk is full; the message says what to do.
    """

    def __init__(self, path: Path) -> None:
        self.database = Database(path)
        """For the tables that other modules own."""
        self._rows = self.database.rows

    def close(self) -> None:
        """Close the file; no method may be called after."""
        self.database.close()

    def stamp(self, digest: Digest) -> Stamp | None:
        """Return how a stored file looked when it was last verified."""
        rows = self._rows("SELECT size_bytes, mtime_ns FROM stamps WHERE digest = ?", (digest,))
        return Stamp(*rows[0]) if rows else None

    def put_stamp(self, digest: Digest, stamp: Stamp) -> None:
        """Record that a stored file has just been verified."""
        self._rows(
            "INSERT OR REPLACE INTO stamps VALUES (?, ?, ?)",
            (digest, stamp.size_bytes, stamp.mtime_ns),
        )

    def drop_stamp(self, digest: Digest) -> None:
        """Forget that a stored file was ever verified."""
        self._rows("DELETE FROM stamps WHERE digest = ?", (digest,))

    def volume(self) -> str:
        """Return on which volume stored files were verified; empty: not said yet."""
        rows = self._rows("SELECT identity FROM volume")
        return str(rows[0][0]) if rows else ""

    def set_volume(self, identity: str) -> None:
        """Say on which volume files are verified from now on; those of another are forgotten."""
        with self.database.lock:
            if self.volume():
                self._rows("DELETE FROM stamps")
            self._rows("DELETE FROM volume")
            self._rows("INSERT INTO volume VALUES (?)", (identity,))

    def laid_out(self, path: Path) -> ManifestId | None:
        """Return the model that the store itself laid out at ``path``."""
        rows = self._rows("SELECT manifest_id FROM layouts WHERE path = ?", (str(path),))
        return ManifestId(rows[0][0]) if rows else None

    def put_layout(self, path: Path, manifest_id: ManifestId) -> None:
        """Record that a model was laid out at ``path``."""
        self._rows("INSERT OR REPLACE INTO layouts VALUES (?, ?)", (str(path), manifest_id))

    def drop_layouts(self, manifest_id: ManifestId) -> None:
        """Forget where a model was laid out."""
        self._rows("DELETE FROM layouts WHERE manifest_id = ?", (manifest_id,))

    def models(self, room_id: RoomId | None = None) -> list[HeldModel]:
        """Return the models held, of one room or of all, the newest first."""
        rows = self._rows(
            "SELECT manifest_id, room_id, name, path, at, last_used FROM models "
            "WHERE ?1 IS NULL OR room_id = ?1 ORDER BY at DESC, manifest_id",
            (room_id,),
        )
        return [_held_model(row) for row in rows]

    def model(self, manifest_id: ManifestId) -> HeldModel | None:
        """Return one held model, as the room names it that used it last."""
        rows = self._rows(
            "SELECT manifest_id, room_id, name, path, at, last_used FROM models "
            "WHERE manifest_id = ? ORDER BY last_used DESC, room_id LIMIT 1",
            (manifest_id,),
        )
        return _held_model(rows[0]) if rows else None

    def put_model(self, model: HeldModel) -> None:
        """Record a model as held."""
        self._rows(
            "INSERT OR REPLACE INTO models VALUES (?, ?, ?, ?, ?, ?)",
            (
                model.manifest_id,
                model.room_id,
                model.name,
                str(model.path),
                model.at,
                model.last_used,
            ),
        )

    def touch_model(self, manifest_id: ManifestId, now: float) -> None:
        """Record that a model was used."""
        self._rows("UPDATE models SET last_used = ? WHERE manifest_id = ?", (now, manifest_id))

    def drop_model(self, manifest_id: ManifestId) -> None:
        """Forget a model in all rooms."""
        self._rows("DELETE FROM models WHERE manifest_id = ?", (manifest_id,))

    def registry(self, room_id: RoomId) -> CachedRegistry | None:
        """Return a room's registry as last read."""
        rows = self._rows("SELECT etag, document FROM registries WHERE room_id = ?", (room_id,))
        return CachedRegistry(*rows[0]) if rows else None

    def put_registry(self, room_id: RoomId, cached: CachedRegistry) -> None:
        """Keep a room's registry as just read."""
        self._rows(
            "INSERT OR REPLACE INTO registries VALUES (?, ?, ?)",
            (room_id, cached.etag, cached.document),
        )

    def drop_room(self, room_id: RoomId) -> None:
        """Forget a room's registry, revocations and which models it named; content stays."""
        # The content may be wanted by another room; only the names go.
        with self.database.lock:
            self._rows("DELETE FROM revocations WHERE room_id = ?", (room_id,))
            self._rows("DELETE FROM registries WHERE room_id = ?", (room_id,))
            self._rows("DELETE FROM models WHERE room_id = ?", (room_id,))

    def revocations(self, room_id: RoomId) -> list[bytes]:
        """Return the revocations of a room, as they were put here, in no order."""
        rows = self._rows("SELECT statement FROM revocations WHERE room_id = ?", (room_id,))
        return [row[0] for row in rows]

    def put_revocation(self, room_id: RoomId, signature: bytes, statement: bytes) -> None:
        """Keep a verified revocation; ``signature`` tells it from the others."""
        self._rows(
            "INSERT OR REPLACE INTO revocations VALUES (?, ?, ?)", (room_id, signature, statement)
        )

    def add_relayed(self, passed: Usage) -> None:
        """Add bytes that passed over relays with one peer to those of that day."""
        self._rows(
            "INSERT INTO relayed VALUES (?, ?, ?) ON CONFLICT (day, peer) "
            "DO UPDATE SET size_bytes = size_bytes + excluded.size_bytes",
            (passed.day, passed.peer, passed.size_bytes),
        )

    def relayed(self, since_day: str) -> list[Usage]:
        """Return what passed over relays from a day on (``YYYY-MM-DD``), and forget the rest."""
        with self.database.lock:
            self._rows("DELETE FROM relayed WHERE day < ?", (since_day,))
            rows = self._rows("SELECT day, peer, size_bytes FROM relayed ORDER BY day, peer")
        return [Usage(day, NodeId(peer), size_bytes) for day, peer, size_bytes in rows]

    def put_ban(self, ban: Ban) -> None:
        """Ban a node, in place of any ban it has."""
        self._rows(
            "INSERT OR REPLACE INTO bans VALUES (?, ?, ?)", (ban.node_id, ban.until, ban.reason)
        )

    def ban(self, node_id: NodeId, now: float) -> Ban | None:
        """Return the ban in force on a node."""
        rows = self._rows(
            "SELECT node_id, until, reason FROM bans WHERE node_id = ? AND until > ?",
            (node_id, now),
        )
        return Ban(*rows[0]) if rows else None

    def bans(self, now: float) -> list[Ban]:
        """Return the bans in force, and forget those that are over."""
        with self.database.lock:
            self._rows("DELETE FROM bans WHERE until <= ?", (now,))
            rows = self._rows("SELECT node_id, until, reason FROM bans ORDER BY node_id")
        return [Ban(*row) for row in rows]

    def use_invite(self, invite_id: bytes, node_id: NodeId, now: float) -> list[NodeId]:
        """Record that a node used an invitation; return all who did, the first one first."""
        with self.database.lock:
            self._rows(
                "INSERT OR IGNORE INTO invite_uses VALUES (?, ?, ?)", (invite_id, node_id, now)
            )
            return self.invite_users(invite_id)

    def invite_users(self, invite_id: bytes) -> list[NodeId]:
        """Return the nodes that used an invitation, the first one first."""
        rows = self._rows(
            # The first to come keeps its place, whatever comes later.
            "SELECT node_id FROM invite_uses WHERE invite_id = ? ORDER BY at, node_id",
            (invite_id,),
        )
        return [NodeId(row[0]) for row in rows]


def _held_model(row: tuple[Any, ...]) -> HeldModel:
    manifest_id, room_id, name, path, at, last_used = row
    return HeldModel(manifest_id, room_id, name, Path(path), at, last_used)
