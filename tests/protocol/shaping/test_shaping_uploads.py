"""Uploads in virtual time: slots, fair shares, limits."""

from __future__ import annotations

from collections import Counter

import pytest

from dreamer.protocol.limits import (
    BLOCK_BYTES,
    UPLOAD_SLICE_BLOCKS,
    UPLOAD_SLOTS,
    UPLOAD_TURN_S,
)
from dreamer.protocol.shaping.meters import Buckets
from dreamer.protocol.shaping.uploads import Uploads
from dreamer.protocol.swarm.vocabulary import Lane

BLOCKS = 64
MIB_S = float(BLOCK_BYTES)


class Wire:
    """A node's uplink, and peers that keep requests open. ``got`` counts blocks by peer."""

    def __init__(self, slots: int = UPLOAD_SLOTS, rate: float | None = None) -> None:
        self.now = 0.0
        self.buckets = Buckets(lan_exempt=True)
        self.buckets.set_rates(rate, {}, 0.0)
        self.uploads = Uploads(slots, self.buckets)
        self.got: Counter[str] = Counter()
        self.refused: Counter[str] = Counter()
        self.peers: dict[tuple[int, int], str] = {}
        self._numbers = iter(range(1, 10**9))

    def ask(self, peer: str, count: int = BLOCKS, link: int = 0) -> tuple[int, int] | None:
        if not self.uploads.admits(peer, Lane.WEBRTC, False, self.now):
            self.refused[peer] += 1
            return None
        key = (link, next(self._numbers))
        self.peers[key] = peer
        self.uploads.ask(key, peer, Lane.WEBRTC, range(count), self.now)
        return key

    def run(self, seconds: float, wants: dict[str, int], bytes_s: float = 100 * MIB_S) -> None:
        """Let time pass; each of ``wants`` keeps so many requests open, and asks anew when told."""
        until, queue = self.now + seconds, []
        while self.now < until:
            for peer, count in wants.items():
                while sum(one == peer for one in self.peers.values()) < count:
                    if self.ask(peer) is None:
                        break
            queue += self.uploads.next(self.now)
            if not queue:
                self.now = min(self.uploads.ready_at(self.now), self.now + 0.5)
                continue
            slice_ = queue.pop(0)
            self.now += len(slice_.blocks) * BLOCK_BYTES / bytes_s
            self.got[self.peers[slice_.key]] += len(slice_.blocks)
            if self.uploads.sent(slice_.key):
                del self.peers[slice_.key]


def test_alone_and_without_limit_a_request_goes_out_whole() -> None:
    wire = Wire()
    key = wire.ask("a")
    (only,) = wire.uploads.next(0.0)
    assert (only.key, only.blocks) == (key, tuple(range(BLOCKS)))
    assert wire.uploads.sent(key)


def test_with_others_slices_go_in_turn_two_of_a_peer_under_way() -> None:
    wire = Wire()
    keys = [wire.ask(peer) for peer in ("a", "b", "a", "b", "a")]
    given = list(wire.uploads.next(0.0))
    assert [wire.peers[one.key] for one in given] == ["a", "b", "a", "b"]
    assert all(len(one.blocks) <= 2 * UPLOAD_SLICE_BLOCKS for one in given)
    assert keys[4] not in [one.key for one in given]
    wire.uploads.sent(given[0].key)
    (after,) = wire.uploads.next(0.0)
    assert wire.peers[after.key] == "a"


def test_downloaders_get_equal_shares_however_many_requests_they_have_open() -> None:
    wire = Wire()
    wire.run(60.0, {"one": 2, "greedy": 12, "single": 2})
    shares = [wire.got[peer] / sum(wire.got.values()) for peer in ("one", "greedy", "single")]
    assert shares == pytest.approx([1 / 3] * 3, abs=0.03)


def test_a_peer_that_asks_over_several_links_counts_once() -> None:
    wire = Wire()
    for link in range(4):
        for _ in range(2):
            wire.ask("many", link=link)
    for _ in range(2):
        wire.ask("one", link=9)
    first = list(wire.uploads.next(0.0))
    assert Counter(wire.peers[one.key] for one in first) == {"many": 2, "one": 2}


@pytest.mark.parametrize("rate", [2 * MIB_S, 20 * MIB_S])
def test_a_limit_holds_over_all_peers(rate: float) -> None:
    wire = Wire(rate=rate)
    wire.run(30.0, {"a": 2, "b": 2, "c": 2})
    assert sum(wire.got.values()) * BLOCK_BYTES == pytest.approx(rate * 30.0, rel=0.1)
    assert min(wire.got[peer] for peer in "abc") > 0.8 * max(wire.got.values())


def test_no_more_peers_are_served_at_a_time_than_there_are_slots() -> None:
    wire = Wire(slots=2)
    for peer in ("a", "b", "c"):
        wire.ask(peer)
    assert wire.refused == {"c": 1}
    assert {wire.peers[one.key] for one in wire.uploads.next(0.0)} == {"a", "b"}


def test_those_that_find_no_slot_get_their_turn_in_the_end() -> None:
    wire = Wire(slots=2, rate=8 * MIB_S)
    wire.run(12 * UPLOAD_TURN_S, dict.fromkeys("abcde", 2))
    assert min(wire.got[peer] for peer in "abcde") > 0.4 * max(wire.got.values())
    assert all(wire.refused[peer] for peer in "abcde")


def test_a_low_limit_serves_few_at_a_time_so_that_none_waits_long_for_a_block() -> None:
    wire = Wire(rate=MIB_S / 8)
    assert wire.ask("a")
    assert wire.ask("b") is None, "a block would take 16 s to come to each of two"


def test_a_block_that_is_cancelled_before_its_turn_is_not_sent() -> None:
    wire = Wire(rate=MIB_S)
    key = wire.ask("a", count=3)
    assert [one.blocks for one in wire.uploads.next(0.0)] == [(0,)]
    assert not wire.uploads.stop(key, 1)
    wire.uploads.sent(key)
    assert [one.blocks for one in wire.uploads.next(10.0)] == [(2,)]
    assert wire.uploads.sent(key)
    assert not wire.uploads.sent(key), "it is not known any more"


def test_cancelling_the_rest_ends_a_request_once_nothing_is_under_way() -> None:
    wire = Wire(rate=MIB_S)
    waiting, running = wire.ask("a"), wire.ask("a")
    (first,) = wire.uploads.next(0.0)
    assert first.key == waiting
    assert wire.uploads.stop(running, None), "of this nothing was under way"
    assert not wire.uploads.stop(waiting, None)
    assert wire.uploads.sent(waiting)
    assert wire.uploads.ready_at(0.0) == float("inf")


def test_forgetting_a_request_gives_its_slot_back() -> None:
    wire = Wire(slots=1)
    key = wire.ask("a")
    assert wire.ask("b") is None
    wire.uploads.forget(key)
    wire.uploads.forget(key)
    assert wire.ask("b")
