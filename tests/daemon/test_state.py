import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from dreamer.daemon.database import _SCHEMA, SCHEMA_VERSION
from dreamer.daemon.state import (
    Ban,
    CachedRegistry,
    HeldModel,
    Stamp,
    State,
)
from dreamer.protocol.errors import LocalError
from dreamer.protocol.ids import Digest, ManifestId, NodeId, RoomId
from dreamer.protocol.relay_budget import Usage

DIGEST = Digest(b"d" * 32)
MODEL = ManifestId(b"m" * 32)
OTHER = ManifestId(b"o" * 32)
ROOM = RoomId(b"r" * 32)
ROOM_2 = RoomId(b"s" * 32)
ANN = NodeId(b"a" * 32)
BOB = NodeId(b"b" * 32)


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    state = State(tmp_path / "home" / "state.db")
    yield state
    state.close()


def test_facts_outlive_the_process(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    first = State(path)
    first.put_stamp(DIGEST, Stamp(5, 1_700_000_000_123_456_789))
    first.close()
    second = State(path)
    assert second.stamp(DIGEST) == Stamp(5, 1_700_000_000_123_456_789)
    second.drop_stamp(DIGEST)
    assert second.stamp(DIGEST) is None
    second.close()


def test_model_is_known_by_room_and_by_last_use(state: State) -> None:
    here = HeldModel(MODEL, ROOM, "tiny", Path("/m/tiny"), at=1.0, last_used=1.0)
    there = HeldModel(MODEL, ROOM_2, "small", Path("/m/tiny"), at=2.0, last_used=2.0)
    state.put_model(here)
    state.put_model(there)
    state.put_model(HeldModel(OTHER, ROOM, "big", Path("/m/big"), at=3.0, last_used=3.0))
    assert [model.name for model in state.models()] == ["big", "small", "tiny"]
    assert [model.name for model in state.models(ROOM)] == ["big", "tiny"]
    assert state.model(MODEL) == there
    state.touch_model(OTHER, 9.0)
    assert state.models(ROOM)[0].last_used == 9.0
    state.drop_model(MODEL)
    assert state.model(MODEL) is None


def test_registry_cache_is_forgotten_with_its_room(state: State) -> None:
    state.put_registry(ROOM, CachedRegistry("e1", b"{}"))
    state.put_registry(ROOM, CachedRegistry("e2", b"{1}"))
    assert state.registry(ROOM) == CachedRegistry("e2", b"{1}")
    state.put_model(HeldModel(MODEL, ROOM, "tiny", Path("/m/tiny"), 1.0, 1.0))
    state.drop_room(ROOM)
    assert state.registry(ROOM) is None
    assert state.models() == []


def test_revocations_outlive_the_process_but_not_their_room(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    first = State(path)
    first.put_revocation(ROOM, b"sig1", b"one")
    first.put_revocation(ROOM, b"sig1", b"one")
    first.put_revocation(ROOM_2, b"sig2", b"two")
    first.close()
    second = State(path)
    assert (second.revocations(ROOM), second.revocations(ROOM_2)) == ([b"one"], [b"two"])
    second.drop_room(ROOM)
    assert (second.revocations(ROOM), second.revocations(ROOM_2)) == ([], [b"two"])
    second.close()


def test_database_of_an_older_version_is_brought_up_to_date(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    database = sqlite3.connect(path)
    database.executescript(f"{_SCHEMA[0]} PRAGMA user_version = 1;")
    database.execute("INSERT INTO stamps VALUES (?, 5, 6)", (bytes(DIGEST),))
    database.commit()
    database.close()
    again = State(path)
    again.put_revocation(ROOM, b"sig", b"statement")
    assert again.stamp(DIGEST) == Stamp(5, 6)
    assert again.revocations(ROOM) == [b"statement"]
    assert again.relayed("2026-01-01") == []
    again.close()


def test_relayed_bytes_add_up_by_peer_and_day_and_old_days_are_forgotten(state: State) -> None:
    for day, peer, size in (
        ("2026-09-30", ANN, 9),
        ("2026-10-31", ANN, 1),
        ("2026-11-01", ANN, 2),
        ("2026-11-01", BOB, 4),
        ("2026-11-01", ANN, 8),
    ):
        state.add_relayed(Usage(day, peer, size))
    kept = [
        Usage("2026-10-31", ANN, 1),
        Usage("2026-11-01", ANN, 10),
        Usage("2026-11-01", BOB, 4),
    ]
    assert state.relayed("2026-10-01") == kept
    assert state.relayed("2026-01-01") == kept


def test_ban_ends_by_itself(state: State) -> None:
    state.put_ban(Ban(ANN, 10.0, "bad block"))
    state.put_ban(Ban(BOB, 20.0, "slow"))
    assert state.ban(ANN, 9.0) == Ban(ANN, 10.0, "bad block")
    assert state.ban(ANN, 10.0) is None
    assert state.bans(15.0) == [Ban(BOB, 20.0, "slow")]


def test_invitation_remembers_who_used_it_first(state: State) -> None:
    assert state.invite_users(b"invite") == []
    assert state.use_invite(b"invite", BOB, 1.0) == [BOB]
    assert state.use_invite(b"invite", ANN, 2.0) == [BOB, ANN]
    assert state.use_invite(b"invite", BOB, 3.0) == [BOB, ANN]


def test_threads_may_share_it(state: State) -> None:
    def work(number: int) -> None:
        for _ in range(20):
            state.add_relayed(Usage("2026-11-01", NodeId(bytes([number]) * 32), 1))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert [used.size_bytes for used in state.relayed("2026-11-01")] == [20] * 4


def test_damaged_database_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    path.write_bytes(b"this is not a database, whatever its name says" * 50)
    with pytest.raises(LocalError, match="move it away"):
        State(path)


def test_database_damaged_inside_says_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    state = State(path)
    for number in range(2000):
        state.put_stamp(Digest(number.to_bytes(32, "big")), Stamp(number, number))
    state.close()
    data = bytearray(path.read_bytes())
    data[8192:] = b"\xff" * (len(data) - 8192)
    path.write_bytes(data)
    with pytest.raises(LocalError, match="move it away"):
        State(path)


def test_database_of_a_newer_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    State(path).close()
    database = sqlite3.connect(path)
    database.execute(f"PRAGMA user_version = {SCHEMA_VERSION + 1}")
    database.close()
    with pytest.raises(LocalError, match="upgrade"):
        State(path)


def test_directory_in_its_place_is_one_clear_error(tmp_path: Path) -> None:
    with pytest.raises(LocalError, match="permissions"):
        State(tmp_path)
