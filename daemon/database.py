"""The node's one SQLite file: how it is opened, what tables it has, how its errors are explained.

Each table belongs to the module that is about its subject; this one owns the connection. Every
statement takes well under a millisecond or a few, so the event loop may run one; a lock lets
threads do so too.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dreamer.protocol.errors import DiskError, LocalError
from dreamer.protocol.limits import STATE_BUSY_TIMEOUT_S

_FIRST = """
CREATE TABLE stamps (digest BLOB PRIMARY KEY, size_bytes INTEGER, mtime_ns INTEGER) WITHOUT ROWID;
CREATE TABLE layouts (path TEXT PRIMARY KEY, manifest_id BLOB) WITHOUT ROWID;
CREATE TABLE models (manifest_id BLOB, room_id BLOB, name TEXT, path TEXT, at REAL,
                     last_used REAL, PRIMARY KEY (manifest_id, room_id)) WITHOUT ROWID;
CREATE TABLE registries (room_id BLOB PRIMARY KEY, etag TEXT, document BLOB);
CREATE TABLE transfers (at REAL, manifest_id BLOB, lane TEXT, size_bytes INTEGER, seconds REAL);
CREATE INDEX transfers_at ON transfers (at);
CREATE TABLE bans (node_id BLOB PRIMARY KEY, until REAL, reason TEXT) WITHOUT ROWID;
CREATE TABLE invite_uses (invite_id BLOB, node_id BLOB, at REAL,
                          PRIMARY KEY (invite_id, node_id)) WITHOUT ROWID;
"""
_REVOCATIONS = """
CREATE TABLE revocations (room_id BLOB, signature BLOB, statement BLOB,
                          PRIMARY KEY (room_id, signature)) WITHOUT ROWID;
"""
_RELAYED = """
CREATE TABLE relayed (day TEXT, peer BLOB, size_bytes INTEGER,
                      PRIMARY KEY (day, peer)) WITHOUT ROWID;
"""
_LEDGER = """
CREATE TABLE ledger (day TEXT, room_id BLOB, manifest_id BLOB, entry TEXT, amount INTEGER,
                     PRIMARY KEY (day, room_id, manifest_id, entry)) WITHOUT ROWID;
INSERT INTO ledger
SELECT date(at, 'unixepoch') AS on_day, x'', manifest_id, lane || '-down', sum(size_bytes)
FROM transfers GROUP BY on_day, manifest_id, lane;
DROP TABLE transfers;
"""
_VOLUME = """
CREATE TABLE volume (identity TEXT);
"""
_UPLOADS = """
CREATE TABLE pending_uploads (room_id BLOB, manifest_id BLOB, name TEXT, size_bytes INTEGER,
                              metadata BLOB, queued_at REAL, attempts INTEGER, error TEXT,
                              PRIMARY KEY (room_id, manifest_id)) WITHOUT ROWID;
CREATE TABLE begun_uploads (place TEXT, key TEXT, upload TEXT, begun_at REAL,
                            PRIMARY KEY (place, key)) WITHOUT ROWID;
"""
_SCHEMA = (_FIRST, _REVOCATIONS, _RELAYED, _LEDGER, _VOLUME, _UPLOADS)
"""What each version of the file added to the one before it."""

SCHEMA_VERSION = len(_SCHEMA)


class Database:
    """The file at a path; made when it is not there.

    Raises:
        LocalError: from any method: the file is damaged, made by a newer Dreamer, locked by
            another program, or the disk is full; the message says what to do.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self.lock = threading.RLock()
        """Held over several statements that belong together."""
        # The first start of a node makes its home.
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._explained():
            self._db = sqlite3.connect(
                path,
                timeout=STATE_BUSY_TIMEOUT_S,
                isolation_level=None,
                check_same_thread=False,
            )
        try:
            with self._explained():
                self._prepare()
        except LocalError:
            self._db.close()
            raise

    def close(self) -> None:
        """Close the file; no method may be called after."""
        with self.lock:
            self._db.close()

    def _prepare(self) -> None:
        # Readers never wait for the writer, and commits need no flush: the last facts before
        # a power cut may be lost, the file stays whole.
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = NORMAL")
        # Damage is better found now, with a message, than in the midst of a pull.
        verdict = self._db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if verdict != "ok":
            raise sqlite3.DatabaseError(verdict)
        version = self._db.execute("PRAGMA user_version").fetchone()[0]
        if version > SCHEMA_VERSION:
            raise LocalError(f"{self._path} was made by a newer Dreamer: upgrade this one")
        # In one transaction: a crash leaves no half of a schema behind.
        if version < SCHEMA_VERSION:
            missing = "".join(_SCHEMA[version:])
            self._db.executescript(f"BEGIN;{missing}PRAGMA user_version = {SCHEMA_VERSION};COMMIT;")

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn SQLite's errors into one that says what to do."""
        try:
            yield
        except sqlite3.OperationalError as error:
            raise DiskError(
                f"can't use {self._path}: {error}; check the disk's space and permissions, "
                "and that no other program has it open"
            ) from error
        except sqlite3.DatabaseError as error:
            raise LocalError(
                f"{self._path} is damaged ({error}): move it away and start again; "
                "models are found again by their hashes"
            ) from error

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Have several statements count together, or, if one fails, none of them."""
        with self.lock:
            self.rows("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self.rows("ROLLBACK")
                raise
            self.rows("COMMIT")

    def rows(self, statement: str, values: Sequence[object] = ()) -> list[Any]:
        """Run one statement; return what it found, all of it."""
        # One connection is one transaction scope, so threads take turns.
        with self.lock, self._explained():
            return self._db.execute(statement, values).fetchall()
