"""What a tracker must not forget: rooms, registries, uses of invitations, revocations.

All in one SQLite file, and all of it bounded: whoever makes a key has a room, strangers too.

The one owner of the file: SQLite's exclusive lock keeps a second tracker out and dies with the
process. ``synchronous=FULL`` means that a call that returned survives ``kill -9`` and power loss.
Every call blocks: make it from a worker thread.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from blake3 import blake3

from dreamer.protocol import canonical
from dreamer.protocol.errors import ConflictError, LocalError
from dreamer.protocol.ids import RoomId
from dreamer.protocol.rooms.membership import Admission
from dreamer.protocol.rooms.revocations import Revocation, RevocationSet, parse_revocation
from dreamer.protocol.tracker_limits import (
    TRACKER_CACHED_REVOCATIONS_ROOMS,
    TRACKER_MAX_ROOMS,
    TRACKER_REGISTRIES_MAX_BYTES,
    TRACKER_ROOM_MAX_ADMISSIONS,
)
from dreamer.tracker.room.refusal import Reason, RefusedError

ETAG_DIGEST_BYTES = 12

_SCHEMA = """
CREATE TABLE IF NOT EXISTS room (
    room BLOB PRIMARY KEY, first_seen REAL NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS registry (
    room BLOB PRIMARY KEY, version INTEGER NOT NULL, etag TEXT NOT NULL, body BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS admission (
    room BLOB, invite BLOB, node BLOB, first_login REAL NOT NULL, PRIMARY KEY (room, invite, node)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS revocation (
    room BLOB, number INTEGER, body TEXT NOT NULL, PRIMARY KEY (room, number)
) WITHOUT ROWID;
"""


@dataclass(frozen=True)
class Document:
    """A room's registry as it stands; ``etag`` is in its quotes, as it goes into the header."""

    etag: str
    body: bytes


@dataclass(frozen=True)
class Revoked:
    """A room's revocations as they came in, as JSON text and parsed, and the nodes they are of.

    Shared by all who read it: ``nodes`` is never added to.
    """

    bodies: tuple[str, ...]
    log: tuple[Revocation, ...]
    nodes: RevocationSet

    def holds(self, revocation: Revocation) -> bool:
        """Return whether this very revocation is kept already."""
        return any(revocation == each for each in self.log)


class Documents:
    """The tracker's store. Safe to call from several threads, one call at a time is served."""

    def __init__(self, directory: Path) -> None:
        """Open the store in ``directory``, made if missing.

        Raises:
            LocalError: another tracker holds it, or it can't be opened.
        """
        path = directory / "tracker.sqlite3"
        self._lock = threading.Lock()
        self._revoked: OrderedDict[RoomId, Revoked] = OrderedDict()
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._database = _open(path)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode == sqlite3.SQLITE_BUSY:
                raise LocalError(
                    f"another dreamer-tracker holds {directory}: stop it, or give another --data"
                ) from error
            raise LocalError(f"can't open {path}: {error}") from error
        except (sqlite3.Error, OSError) as error:
            raise LocalError(f"can't open {path}: {error}") from error

    def close(self) -> None:
        """Release the store."""
        with self._lock:
            self._database.close()

    def probe(self) -> None:
        """Touch the store.

        Raises:
            sqlite3.Error: it can't be used.
        """
        with self._lock:
            self._database.execute("SELECT count(*) FROM registry").fetchone()

    def knows(self, room: RoomId) -> bool:
        """Return whether a member of the room has been let in before."""
        with self._lock:
            row = self._database.execute("SELECT 1 FROM room WHERE room = ?", (room,)).fetchone()
        return row is not None

    def add_room(self, room: RoomId, now: float) -> None:
        """Remember a room.

        Raises:
            RefusedError: there are too many.
        """
        with self._writing() as database:
            (rooms,) = database.execute("SELECT count(*) FROM room").fetchone()
            if rooms >= TRACKER_MAX_ROOMS:
                raise RefusedError(
                    Reason.FORBIDDEN,
                    "this tracker takes no more rooms: use another, or run your own",
                )
            database.execute("INSERT OR IGNORE INTO room VALUES (?, ?)", (room, now))

    def registry(self, room: RoomId) -> Document | None:
        """Return a room's registry, None when none was written yet."""
        with self._lock:
            row = self._database.execute(
                "SELECT etag, body FROM registry WHERE room = ?", (room,)
            ).fetchone()
        return None if row is None else Document(*row)

    def write_registry(self, room: RoomId, body: bytes, expected: Sequence[str] | None) -> str:
        """Replace a room's registry if its ETag is one of ``expected``; None: if there is none.

        ``*`` among the expected stands for any registry, but there must be one.

        Raises:
            ConflictError: the registry is not what the writer thinks; nothing was written.
            LocalError: all registries together take as much as this tracker keeps.
        """
        with self._writing() as database:
            row = database.execute(
                "SELECT version, etag, length(body) FROM registry WHERE room = ?", (room,)
            ).fetchone()
            version, etag, old_bytes = row or (0, None, 0)
            if not _meets(etag, expected):
                raise ConflictError("the registry was changed by another node: read it again")
            if len(body) > old_bytes:
                _check_room_for(database, len(body) - old_bytes)
            digest = blake3(body).hexdigest(length=ETAG_DIGEST_BYTES)
            # The version, because a body may return; the digest, because a store may be replaced.
            etag = f'"{version + 1}.{digest}"'
            database.execute(
                "INSERT OR REPLACE INTO registry VALUES (?, ?, ?, ?)",
                (room, version + 1, etag, body),
            )
        return etag

    def redeem(self, room: RoomId, admissions: Sequence[Admission], now: float) -> None:
        """Record that invitations let nodes in, each node once.

        Raises:
            RefusedError: an invitation is used up or has expired, or the room has used too many,
                and the node wasn't in before.
        """
        with self._writing() as database:
            for admission in admissions:
                _redeem(database, room, admission, now)

    def revoked(self, room: RoomId) -> Revoked:
        """Return what was revoked in a room; each was verified when it came in."""
        with self._lock:
            if room not in self._revoked:
                self._revoked[room] = _read_revoked(self._database, room)
                if len(self._revoked) > TRACKER_CACHED_REVOCATIONS_ROOMS:
                    self._revoked.popitem(last=False)
            self._revoked.move_to_end(room)
            return self._revoked[room]

    def add_revocation(self, revocation: Revocation) -> None:
        """Keep a revocation that the caller has verified, after all others of its room."""
        body = canonical.dumps(revocation.to_json()).decode()
        with self._writing() as database:
            # Our own count, not the revocation's number: two admins at two trackers may both have
            # used that one, and each of theirs reaches the other tracker in the end.
            database.execute(
                "INSERT INTO revocation SELECT ?1, 1 + coalesce(max(number), 0), ?2"
                " FROM revocation WHERE room = ?1",
                (revocation.room_id, body),
            )
            self._revoked.pop(revocation.room_id, None)

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            self._database.execute("BEGIN IMMEDIATE")
            try:
                yield self._database
            # Whatever happened: an open transaction would make every later write fail.
            except BaseException:
                self._database.execute("ROLLBACK")
                raise
            self._database.execute("COMMIT")


def _open(path: Path) -> sqlite3.Connection:
    # Without a timeout: whoever holds the file holds it for as long as it runs.
    database = sqlite3.connect(path, timeout=0, isolation_level=None, check_same_thread=False)
    try:
        database.execute("PRAGMA locking_mode = EXCLUSIVE")
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("PRAGMA synchronous = FULL")
        database.executescript(_SCHEMA)
        # The exclusive lock is taken by the first write, not by the pragma.
        database.execute("BEGIN IMMEDIATE")
        database.execute("PRAGMA user_version = 1")
        database.execute("COMMIT")
    except sqlite3.Error:
        database.close()
        raise
    return database


def _check_room_for(database: sqlite3.Connection, more_bytes: int) -> None:
    (stored_bytes,) = database.execute(
        "SELECT coalesce(sum(length(body)), 0) FROM registry"
    ).fetchone()
    if stored_bytes + more_bytes > TRACKER_REGISTRIES_MAX_BYTES:
        raise LocalError("this tracker has no space left for registries: ask its owner")


def _read_revoked(database: sqlite3.Connection, room: RoomId) -> Revoked:
    rows = database.execute(
        "SELECT body FROM revocation WHERE room = ? ORDER BY number", (room,)
    ).fetchall()
    bodies = tuple(body for (body,) in rows)
    log = tuple(parse_revocation(json.loads(body)) for body in bodies)
    return Revoked(bodies, log, RevocationSet(room, log))


def _meets(etag: str | None, expected: Sequence[str] | None) -> bool:
    if etag is None or expected is None:
        return etag is expected
    return etag in expected or "*" in expected


def _redeem(database: sqlite3.Connection, room: RoomId, admission: Admission, now: float) -> None:
    of_invite = (room, admission.invite_id)
    row = (*of_invite, admission.node_id)
    if database.execute(
        "SELECT 1 FROM admission WHERE room = ? AND invite = ? AND node = ?", row
    ).fetchone():
        return
    if admission.not_after is not None and now > admission.not_after:
        raise RefusedError(Reason.EXPIRED, "this invitation has expired: ask for a new one")
    (members,) = database.execute(
        "SELECT count(*) FROM admission WHERE room = ?", (room,)
    ).fetchone()
    if members >= TRACKER_ROOM_MAX_ADMISSIONS:
        raise RefusedError(
            Reason.FORBIDDEN, "this room has let in too many for this tracker: make a new one"
        )
    (used,) = database.execute(
        "SELECT count(*) FROM admission WHERE room = ? AND invite = ?", of_invite
    ).fetchone()
    if used >= admission.uses:
        raise RefusedError(Reason.USED, "this invitation has been used: ask for a new one")
    database.execute("INSERT INTO admission VALUES (?, ?, ?, ?)", (*row, now))
