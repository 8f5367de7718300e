from __future__ import annotations

import pytest

from dreamer.protocol.tracker_limits import (
    TRACKER_NEW_ROOMS_PER_ADDRESS,
    TRACKER_NEW_ROOMS_WINDOW_S,
)
from dreamer.tracker.room.new_rooms import NewRooms
from dreamer.tracker.room.refusal import RefusedError


def use_up(rooms: NewRooms, address: str, now: float = 0.0) -> None:
    for _ in range(TRACKER_NEW_ROOMS_PER_ADDRESS):
        rooms.count(address, now)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("192.0.2.1", "::ffff:192.0.2.1"),
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9"),
    ],
)
def test_address_that_brought_too_many_rooms_waits_an_hour(first, second):
    rooms = NewRooms()
    use_up(rooms, first)
    with pytest.raises(RefusedError, match="try in an hour"):
        rooms.count(second, TRACKER_NEW_ROOMS_WINDOW_S - 1)
    rooms.count(second, TRACKER_NEW_ROOMS_WINDOW_S)


@pytest.mark.parametrize(
    ("first", "second"),
    [("192.0.2.1", "192.0.2.2"), ("2001:db8:1:2::1", "2001:db8:1:3::1"), ("", "192.0.2.1")],
)
def test_other_addresses_are_not_kept_waiting(first, second):
    rooms = NewRooms()
    use_up(rooms, first)
    rooms.count(second, 0.0)


def test_addresses_are_forgotten_with_their_hour():
    rooms = NewRooms()
    use_up(rooms, "192.0.2.1")
    rooms.count("192.0.2.2", 10.0)
    rooms.prune(TRACKER_NEW_ROOMS_WINDOW_S)
    assert list(rooms._times) == ["192.0.2.2"]
