"""The ledger: what is added stays, adds up, and stays small."""

from __future__ import annotations

import asyncio
import sqlite3
import threading
from pathlib import Path

import pytest

from dreamer.daemon.costs import ledger as module
from dreamer.daemon.costs.ledger import BEFORE, Ledger, Span
from dreamer.daemon.database import Database
from dreamer.protocol.errors import DiskError
from dreamer.protocol.ids import ManifestId, RoomId

LAB, DEPOT = RoomId(b"l" * 32), RoomId(b"d" * 32)
MODEL, OTHER = ManifestId(b"m" * 32), ManifestId(b"o" * 32)


def named(usage) -> dict[str, int]:
    return {str(one): amount for one, amount in usage.items()}


def test_amounts_add_up_by_day_room_and_model(ledger, calendar, entry) -> None:
    ledger.add(LAB, MODEL, entry("origin-down"), 5)
    ledger.add(LAB, MODEL, entry("origin-down"), 2)
    ledger.add(LAB, OTHER, entry("origin-down"), 1)
    ledger.add(DEPOT, MODEL, entry("direct-up"), 9)
    ledger.add(LAB, None, entry("relay-paid"), 3)
    calendar.day = "2026-12-01"
    ledger.add(LAB, MODEL, entry("origin-down"), 100)
    november, december = Span.month("2026-11"), Span.month("2026-12")
    assert named(ledger.usage(november)) == {"origin-down": 8, "direct-up": 9, "relay-paid": 3}
    assert named(ledger.usage(november, LAB)) == {"origin-down": 8, "relay-paid": 3}
    assert named(ledger.usage(Span.day("2026-12-01"))) == {"origin-down": 100}
    assert named(ledger.usage(december, DEPOT)) == {}
    assert named(ledger.usage()) == {"origin-down": 108, "direct-up": 9, "relay-paid": 3}
    by_model = {key: named(usage) for key, usage in ledger.by_model(november, LAB).items()}
    assert by_model == {
        MODEL: {"origin-down": 7},
        OTHER: {"origin-down": 1},
        None: {"relay-paid": 3},
    }
    by_month = {month: named(usage) for month, usage in ledger.by_month(LAB).items()}
    assert by_month == {
        "2026-11": {"origin-down": 8, "relay-paid": 3},
        "2026-12": {"origin-down": 100},
    }


def test_nothing_and_less_is_not_entered(ledger, entry) -> None:
    ledger.add(LAB, MODEL, entry("origin-down"), 0)
    ledger.add(LAB, MODEL, entry("origin-down"), -5)
    assert ledger.usage() == {}


def test_it_stays_over_a_restart(tmp_path: Path, calendar, entry) -> None:
    for _ in range(3):
        database = Database(tmp_path / "kept.db")
        ledger = Ledger(database, calendar.wall)
        ledger.add(LAB, MODEL, entry("webrtc-down"), 7)
        ledger.settle()
        database.close()
    database = Database(tmp_path / "kept.db")
    assert named(Ledger(database, calendar.wall).usage()) == {"webrtc-down": 21}
    database.close()


async def test_it_is_written_every_few_seconds_without_being_read(
    ledger, database, entry, monkeypatch
) -> None:
    monkeypatch.setattr(module, "LEDGER_WRITE_INTERVAL_S", 0.01)
    running = asyncio.create_task(ledger.run())
    ledger.add(LAB, MODEL, entry("origin-down"), 5)
    async with asyncio.timeout(10):
        # Read past the ledger: what is there is what a killed daemon would leave.
        while not database.rows("SELECT amount FROM ledger"):
            await asyncio.sleep(0.005)
    running.cancel()
    await asyncio.wait([running])


async def test_days_older_than_13_months_become_one_and_the_totals_stay(
    ledger, database, calendar, entry
) -> None:
    for day in ("2025-01-01", "2025-02-01", "2026-11-20"):
        calendar.day = day
        ledger.add(LAB, MODEL, entry("origin-down"), 10)
        ledger.add(DEPOT, OTHER, entry("direct-up"), 1)
    calendar.day = "2026-11-21"
    for _ in range(2):  # The second time has nothing left to add up.
        running = asyncio.create_task(ledger.run())
        await asyncio.sleep(0)
        running.cancel()
        await asyncio.wait([running])
    assert named(ledger.usage()) == {"origin-down": 30, "direct-up": 3}
    days = [row[0] for row in database.rows("SELECT DISTINCT day FROM ledger ORDER BY day")]
    assert days == [BEFORE, "2026-11-20"]
    assert list(ledger.by_month()) == ["2026-11"]


def test_models_beyond_the_bound_of_a_day_are_counted_as_of_none(
    ledger, database, calendar, entry, monkeypatch
) -> None:
    monkeypatch.setattr(module, "LEDGER_MODELS_MAX_PER_DAY", 3)
    models = [ManifestId(bytes([number]) * 32) for number in range(1, 8)]
    for model in models * 2:
        ledger.add(LAB, model, entry("origin-down"), 1)
    found = {key: named(usage) for key, usage in ledger.by_model(Span()).items()}
    apart = {model: {"origin-down": 2} for model in models[:3]}
    assert found == {**apart, None: {"origin-down": 8}}
    calendar.day = "2026-11-22"
    ledger.add(LAB, models[6], entry("origin-down"), 1)
    assert models[6] in ledger.by_model(Span.day("2026-11-22"))


def test_what_can_not_be_written_waits_and_is_counted_once(ledger, database, entry, caplog) -> None:
    class Full:
        """A disk that has room for so many more rows."""

        left = 1

        def rows(self, statement, values=()):
            if statement.startswith("INSERT"):
                if not self.left:
                    raise DiskError("the disk is full", "make room")
                self.left -= 1
            return database.rows(statement, values)

    disk = Full()
    ledger._database = disk
    for name in ("origin-down", "direct-down", "webrtc-down"):
        ledger.add(LAB, MODEL, entry(name), 1)
    for _ in range(5):
        ledger.settle()
    assert len([record for record in caplog.records if "kept in memory" in record.message]) == 1
    disk.left = 100
    assert named(ledger.usage()) == {"origin-down": 1, "direct-down": 1, "webrtc-down": 1}
    ledger.settle()
    assert named(ledger.usage()) == {"origin-down": 1, "direct-down": 1, "webrtc-down": 1}


def test_threads_may_add_at_the_same_time(ledger, entry) -> None:
    def work() -> None:
        for _ in range(200):
            ledger.add(LAB, MODEL, entry("origin-down"), 1)
            ledger.add(LAB, None, entry("origin-gets"), 1)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(20):
        ledger.settle()
    for thread in threads:
        thread.join(30)
    assert named(ledger.usage()) == {"origin-down": 800, "origin-gets": 800}


def test_sources_are_asked_before_anything_is_read(ledger, entry) -> None:
    ledger.sources.append(lambda: ledger.add(LAB, MODEL, entry("direct-up"), 4))
    assert named(ledger.usage()) == {"direct-up": 4}
    assert named(ledger.usage()) == {"direct-up": 8}


def test_transfers_of_older_versions_are_taken_over(tmp_path: Path, entry) -> None:
    path = tmp_path / "old.db"
    old = sqlite3.connect(path)
    from dreamer.daemon.database import _FIRST, _RELAYED, _REVOCATIONS

    old.executescript(_FIRST + _REVOCATIONS + _RELAYED + "PRAGMA user_version = 3;")
    at = 1_795_000_000.0  # 2026-11-18
    for lane, size in (("origin", 5), ("origin", 6), ("webrtc", 7)):
        old.execute(
            "INSERT INTO transfers VALUES (?, ?, ?, ?, 1.0)", (at, bytes(MODEL), lane, size)
        )
    old.commit()
    old.close()
    database = Database(path)
    found = Ledger(database).by_model(Span.month("2026-11"))
    assert {key: named(usage) for key, usage in found.items()} == {
        MODEL: {"origin-down": 11, "webrtc-down": 7}
    }
    with pytest.raises(DiskError):
        database.rows("SELECT * FROM transfers")
    database.close()
