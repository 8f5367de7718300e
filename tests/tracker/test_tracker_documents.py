from __future__ import annotations

import contextlib
import threading

import pytest

from dreamer.protocol.errors import ConflictError, LocalError
from dreamer.protocol.ids import NodeId, RoomId
from dreamer.protocol.rooms.membership import Admission
from dreamer.tracker.room.documents import Documents
from dreamer.tracker.room.refusal import RefusedError

ROOM = RoomId(b"r" * 32)


def use(number: int, uses: int = 1, not_after: int | None = None) -> Admission:
    return Admission(b"i" * 16, NodeId(bytes([number]) * 32), uses, not_after)


def test_everything_is_there_after_a_restart(tmp_path):
    first = Documents(tmp_path)
    etag = first.write_registry(ROOM, b"{}", None)
    first.redeem(ROOM, [use(1)], now=1.0)
    first.close()
    second = Documents(tmp_path)
    assert second.registry(ROOM).etag == etag
    second.redeem(ROOM, [use(1)], now=1.0)
    with pytest.raises(RefusedError):
        second.redeem(ROOM, [use(2)], now=1.0)
    second.close()


def test_store_held_by_another_tracker_is_refused(documents, tmp_path):
    with pytest.raises(LocalError, match="another dreamer-tracker holds"):
        Documents(tmp_path / "data")
    documents.close()
    Documents(tmp_path / "data").close()


def test_store_that_is_no_database_is_refused(tmp_path):
    (tmp_path / "tracker.sqlite3").write_bytes(b"not a database, but long enough to be one" * 50)
    with pytest.raises(LocalError, match="can't open"):
        Documents(tmp_path)


def test_data_folder_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LocalError, match="can't open"):
        Documents(tmp_path / "file")


def test_same_body_written_again_has_another_etag(documents):
    first = documents.write_registry(ROOM, b"{}", None)
    assert documents.write_registry(ROOM, b"{}", [first]) != first


def test_rooms_have_their_own_registries(documents):
    documents.write_registry(ROOM, b"{}", None)
    assert documents.registry(RoomId(b"o" * 32)) is None


def test_one_of_many_writers_wins_each_round(documents):
    etag = documents.write_registry(ROOM, b"{}", None)
    won: list[str] = []

    def write(number: int) -> None:
        with contextlib.suppress(ConflictError):
            won.append(documents.write_registry(ROOM, b'{"n":%d}' % number, [etag]))

    threads = [threading.Thread(target=write, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert won == [documents.registry(ROOM).etag]


def test_refused_redemption_leaves_no_trace_of_the_others_in_it(documents):
    fresh = Admission(b"f" * 16, NodeId(b"n" * 32), 1, None)
    with pytest.raises(RefusedError):
        documents.redeem(ROOM, [fresh, use(1, not_after=5)], now=6.0)
    other = Admission(b"f" * 16, NodeId(b"o" * 32), 1, None)
    documents.redeem(ROOM, [other], now=6.0)


def test_uses_count_per_room(documents):
    documents.redeem(ROOM, [use(1)], now=0.0)
    documents.redeem(RoomId(b"o" * 32), [use(2)], now=0.0)
