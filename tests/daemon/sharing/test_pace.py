"""The node's one queue of uploads, and its limits, whoever looks at which clock."""

from __future__ import annotations

from dreamer.daemon.sharing.pace import Pace, RoomUploads
from dreamer.protocol.limits import MIB
from dreamer.protocol.shaping.rates import Limits, Rates
from dreamer.protocol.shaping.uploads import Slice
from dreamer.protocol.swarm.vocabulary import Lane


class Clock:
    """Stands still until a test moves it."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_pulls_whose_clocks_differ_share_one_limit() -> None:
    clock = Clock()
    pace = Pace(Limits(Rates(down=1e6)), clock=clock)
    taken = 0
    for _ in range(100):
        clock.now += 0.1
        # One was there before this machine was halted for a quarter of an hour, one was not.
        for now in (clock.now, clock.now - 900.0):
            if pace.grant(Lane.WEBRTC, False, now) > 0:
                pace.take(Lane.WEBRTC, False, MIB, now)
                taken += MIB
    assert 9 * MIB <= taken <= 1e6 * 10.0 + 2 * MIB


def test_the_peers_of_two_rooms_wait_in_one_queue_and_each_room_hears_of_its_own() -> None:
    pace = Pace(slots=2, clock=Clock())
    given: dict[str, list[Slice]] = {"one": [], "other": []}
    rooms = {name: RoomUploads(pace, heard.append) for name, heard in given.items()}
    for link, (room, peer) in enumerate([("one", "a"), ("other", "b"), ("other", "a")]):
        assert rooms[room].admits(peer, Lane.WEBRTC, False, 0.0)
        rooms[room].ask((link, 1), peer, Lane.WEBRTC, range(64), 0.0)
    assert not rooms["one"].admits("c", Lane.WEBRTC, False, 0.0), "both slots are taken"
    pace.settle()
    assert [one.key for one in given["one"]] == [(0, 1)]
    assert [one.key for one in given["other"]] == [(1, 1), (2, 1)], "two slices of a peer at most"
    assert not rooms["one"].sent((0, 1))
    assert len(given["one"]) == 1, "not before everything that happened together is noted"
    pace.settle()
    assert [one.key for one in given["one"]] == [(0, 1), (0, 1)]
    pace.settle()
    assert sum(map(len, given.values())) == 4
