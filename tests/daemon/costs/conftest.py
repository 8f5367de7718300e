"""A ledger on a real database, whose days a test makes pass."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pytest

from dreamer.daemon.costs.ledger import Ledger
from dreamer.daemon.database import Database
from dreamer.protocol.costs import ENTRIES, Entry


@dataclass
class Calendar:
    """What day it is."""

    day: str = "2026-11-21"

    def wall(self) -> float:
        return datetime.fromisoformat(self.day).replace(tzinfo=UTC).timestamp() + 3600


@pytest.fixture
def calendar() -> Calendar:
    return Calendar()


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(tmp_path / "state.db")
    yield made
    made.close()


@pytest.fixture
def ledger(database: Database, calendar: Calendar) -> Ledger:
    return Ledger(database, calendar.wall)


@pytest.fixture
def entry():
    """``entry("origin-down")``."""

    def find(name: str) -> Entry:
        (found,) = (one for one in ENTRIES if str(one) == name)
        return found

    return find
