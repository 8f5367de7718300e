"""The node's ledger: bytes and requests by day, room, model, lane and direction; it stays.

Amounts are added in memory, by any thread, and written every few seconds and at the end, so that a
killed daemon forgets no more than the last of them. After 13 months days are added up into one row
of each kind, which keeps the totals; more models a day than a bound are one, called none.
"""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from dreamer.daemon.database import Database
from dreamer.protocol.cache_limits import (
    LEDGER_KEPT_DAYS,
    LEDGER_MODELS_MAX_PER_DAY,
    LEDGER_WRITE_INTERVAL_S,
)
from dreamer.protocol.costs import Entry, entry_named
from dreamer.protocol.errors import LocalError
from dreamer.protocol.ids import ManifestId, RoomId
from dreamer.protocol.relay_budget import DAY_S, day_of

log = logging.getLogger(__name__)

BEFORE = "0000-00-00"
"""The day of all that is older than is kept."""

_NO_MODEL = b""

_Key = tuple[str, bytes, bytes, str]
"""Day, room, model, entry."""

_ADD = (
    "INSERT INTO ledger VALUES (?, ?, ?, ?, ?) ON CONFLICT (day, room_id, manifest_id, entry) "
    "DO UPDATE SET amount = amount + excluded.amount"
)
_FOLD = (
    "INSERT INTO ledger SELECT ?1, room_id, x'', entry, sum(amount) FROM ledger "
    "WHERE day < ?2 AND day > ?1 GROUP BY room_id, entry "
    "ON CONFLICT (day, room_id, manifest_id, entry) DO UPDATE SET amount = amount + excluded.amount"
)


@dataclass(frozen=True)
class Span:
    """Days from ``first`` to ``last``, both counted (``YYYY-MM-DD``, UTC); by default all."""

    first: str = ""
    last: str = "9999"

    @classmethod
    def month(cls, month: str) -> Span:
        """Return a month (``YYYY-MM``), also one that has no 31st."""
        return cls(f"{month}-01", f"{month}-31")

    @classmethod
    def day(cls, day: str) -> Span:
        """Return one day."""
        return cls(day, day)


class Ledger:
    """The ledger in ``database``; ``wall`` returns epoch seconds. Thread-safe.

    Raises:
        LocalError: from what reads: the database can't be used.
    """

    def __init__(self, database: Database, wall: Callable[[], float] = time.time) -> None:
        self._database = database
        self._wall = wall
        self._lock = threading.Lock()
        self._pending: dict[_Key, int] = {}
        self._models: dict[bytes, None] = {}
        self._models_of = ""
        self._complained = False
        self.sources: list[Callable[[], None]] = []
        """Called on the loop before anything is written or read: who counts by looking now and
        then adds what there is."""

    # Adding

    def add(self, room: RoomId, model: ManifestId | None, entry: Entry, amount: int) -> None:
        """Add an amount to this day's."""
        if amount <= 0:
            return
        day = day_of(self._wall())
        with self._lock:
            key = (day, bytes(room), self._counted_model(day, model), str(entry))
            self._pending[key] = self._pending.get(key, 0) + amount

    def _counted_model(self, day: str, model: ManifestId | None) -> bytes:
        if model is None:
            return _NO_MODEL
        if day != self._models_of:
            self._models_of, self._models = day, {}
        if model not in self._models and len(self._models) >= LEDGER_MODELS_MAX_PER_DAY:
            return _NO_MODEL
        self._models[model] = None
        return bytes(model)

    # Writing

    async def run(self) -> None:
        """Write every few seconds until cancelled."""
        folded = ""
        while True:
            self.settle()
            if (today := self.today) != folded:
                self._fold()
                folded = today
            await asyncio.sleep(LEDGER_WRITE_INTERVAL_S)

    @property
    def today(self) -> str:
        """This day, UTC."""
        return day_of(self._wall())

    def settle(self) -> None:
        """Ask the sources and write down all that was added; what can't be written waits."""
        for look in self.sources:
            look()
        with self._lock:
            pending, self._pending = self._pending, {}
        try:
            while pending:
                key, amount = next(iter(pending.items()))
                self._database.rows(_ADD, (*key, amount))
                del pending[key]
            self._complained = False
        except LocalError as error:
            if not self._complained:
                log.error("what was moved can't be recorded now, and is kept in memory: %s", error)
            self._complained = True
            with self._lock:
                for key, amount in pending.items():
                    self._pending[key] = self._pending.get(key, 0) + amount

    def _fold(self) -> None:
        oldest = day_of(self._wall() - LEDGER_KEPT_DAYS * DAY_S)
        database = self._database
        try:
            # Together, or a crash between the two would count the old days twice.
            with database.transaction():
                database.rows(_FOLD, (BEFORE, oldest))
                database.rows("DELETE FROM ledger WHERE day < ? AND day > ?", (oldest, BEFORE))
        except LocalError as error:
            log.error("the ledger's oldest days can't be added up: %s", error)

    # Reading

    def usage(self, span: Span | None = None, room: RoomId | None = None) -> dict[Entry, int]:
        """Return what was moved in some days, in a room or in all."""
        rows = self._sums("''", span or Span(), room)
        return _grouped(rows).get("", {})

    def by_model(
        self, span: Span, room: RoomId | None = None
    ) -> dict[ManifestId | None, dict[Entry, int]]:
        """Return the same by model; None is what is of no model, or of too many."""
        grouped = _grouped(self._sums("lower(hex(manifest_id))", span, room))
        return {
            ManifestId(bytes.fromhex(model)) if model else None: usage
            for model, usage in grouped.items()
        }

    def by_month(self, room: RoomId | None = None) -> dict[str, dict[Entry, int]]:
        """Return all that is kept by month (``YYYY-MM``), the first first."""
        grouped = _grouped(self._sums("substr(day, 1, 7)", Span("1970"), room))
        return dict(sorted(grouped.items()))

    def _sums(self, group: str, span: Span, room: RoomId | None) -> list[tuple[str, str, int]]:
        self.settle()
        found: list[tuple[str, str, int]] = self._database.rows(
            f"SELECT {group} AS part, entry, sum(amount) FROM ledger "  # noqa: S608 - our own words
            "WHERE day >= ?1 AND day <= ?2 AND (?3 IS NULL OR room_id = ?3) GROUP BY part, entry",
            (span.first, span.last, room),
        )
        return found


def _grouped(
    rows: Iterable[tuple[str, str, int]],
) -> dict[str, dict[Entry, int]]:
    grouped: dict[str, dict[Entry, int]] = {}
    for part, name, amount in rows:
        # A newer Dreamer may have counted more before this one was put back.
        if (entry := entry_named(name)) is not None:
            grouped.setdefault(part, {})[entry] = amount
    return grouped
