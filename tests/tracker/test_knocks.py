from __future__ import annotations

import pytest

from dreamer.protocol.tracker_limits import (
    TRACKER_KNOCKS_PER_ADDRESS,
    TRACKER_LOGINS_BURST,
    TRACKER_LOGINS_PER_S,
)
from dreamer.tracker.room.knocks import Knocks
from dreamer.tracker.room.refusal import Reason, RefusedError


class Door:
    """Knocks, and who was turned out."""

    def __init__(self) -> None:
        self.knocks = Knocks()
        self.cut: list[str] = []

    def knock(self, address: str, name: str = "", now: float = 0.0):
        return self.knocks.begin(address, lambda: self.cut.append(name), now)

    def refuses(self, address: str, now: float = 0.0) -> bool:
        with pytest.raises(RefusedError, match="wait some seconds") as caught:
            self.knock(address, now=now)
        # The word that tells a node to come again soon.
        return caught.value.reason is Reason.FULL


@pytest.fixture
def door() -> Door:
    return Door()


@pytest.mark.parametrize("same", [("192.0.2.1", "192.0.2.1"), ("2001:db8::1", "2001:db8::2")])
def test_one_address_holds_few_places(door, same):
    first = [door.knock(same[0]) for _ in range(TRACKER_KNOCKS_PER_ADDRESS)]
    assert door.refuses(same[1])
    door.knock("192.0.2.9")
    first[0].end()
    door.knock(same[1])
    assert door.cut == []


@pytest.mark.parametrize("same", [("192.0.2.1", "192.0.2.1"), ("2001:db8::1", "2001:db8::2")])
def test_one_address_knocks_so_often_and_then_slowly(door, same):
    for _ in range(int(TRACKER_LOGINS_BURST)):
        door.knock(same[0]).end()
    assert door.refuses(same[1])
    door.knock("192.0.2.9").end()
    soon = 1.01 / TRACKER_LOGINS_PER_S
    door.knock(same[1], now=soon).end()
    assert door.refuses(same[1], now=soon)


def test_who_fills_every_place_turns_out_its_own(door, monkeypatch):
    monkeypatch.setattr("dreamer.tracker.room.knocks.TRACKER_KNOCKS_MAX", 4)
    door.knock("192.0.2.1", "alone")
    for name in ("one", "two", "three"):
        door.knock("192.0.2.2", name)
    door.knock("192.0.2.3", "newcomer")
    assert (door.cut, len(door.knocks)) == (["one"], 4)
    door.knock("192.0.2.2", "four")
    assert (door.cut, len(door.knocks)) == (["one", "two"], 4)


def test_behind_a_proxy_only_the_places_are_bounded(monkeypatch):
    monkeypatch.setattr("dreamer.tracker.room.knocks.TRACKER_KNOCKS_MAX", 150)
    cut: list[int] = []
    knocks = Knocks(by_address=False)
    for number in range(int(TRACKER_LOGINS_BURST) + 100):
        knocks.begin("127.0.0.1", lambda number=number: cut.append(number), 0.0)
    assert (len(knocks), cut) == (150, list(range(int(TRACKER_LOGINS_BURST) - 50)))


def test_place_is_given_back_once(door):
    kept = door.knock("192.0.2.1")
    with door.knock("192.0.2.1") as knock:
        knock.end()
        knock.end()
        assert len(door.knocks) == 1
    assert len(door.knocks) == 1
    kept.end()
    assert len(door.knocks) == 0
