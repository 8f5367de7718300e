"""Batches shared out by rates."""

from __future__ import annotations

import pytest

from dreamer.protocol.ids import NodeId
from dreamer.protocol.spread import Hand, spread

NODES = [NodeId(bytes([number]) * 32) for number in range(4)]


def counts(items: int, *hands: tuple[float | None, float], least: int = 1) -> list[int]:
    """Return how many of ``items`` equal ones each of the hands (rate, delay) gets."""
    given = [Hand(NODES[place], rate, delay) for place, (rate, delay) in enumerate(hands)]
    found = [0] * len(hands)
    for share in spread([1.0] * items, given, least):
        found[NODES.index(share.node)] += share.count
    return found


@pytest.mark.parametrize(
    ("items", "hands", "expected"),
    [
        (12, [(5.0, 0.0)], [12]),
        (12, [(5.0, 0.0), (5.0, 0.0)], [6, 6]),
        (12, [(9.0, 0.0), (3.0, 0.0)], [9, 3]),
        (100, [(50.0, 0.0), (30.0, 0.0), (20.0, 0.0)], [50, 30, 20]),
        # The first does 10 in the second before the other begins; the rest is halved.
        (30, [(10.0, 0.0), (10.0, 1.0)], [20, 10]),
        # Done before the other would begin.
        (9, [(10.0, 0.0), (1000.0, 1.0)], [9, 0]),
        (9, [(10.0, 5.0), (10.0, 0.1)], [0, 9]),
        # Not measured: as fast as the others are on average; nobody measured: all alike.
        (12, [(8.0, 0.0), (None, 0.0), (4.0, 0.0)], [5, 4, 3]),
        (12, [(None, 0.0), (None, 99.0)], [6, 6]),
        (1, [(1.0, 0.0), (1.0, 0.0)], [1, 0]),
        (2, [(1.0, 0.0), (1.0, 0.0), (1.0, 0.0)], [1, 0, 1]),
        # A node that was measured to do nothing gets nothing.
        (4, [(0.0, 0.0), (1.0, 0.0)], [0, 4]),
        (4, [(0.0, 0.0)], [4]),
    ],
)
def test_shares(items: int, hands: list[tuple[float | None, float]], expected: list[int]) -> None:
    assert counts(items, *hands) == expected


def test_nobody_gets_fewer_than_the_least() -> None:
    assert counts(20, (9.0, 0.0), (1.0, 0.0), least=4) == [20, 0]
    assert counts(40, (9.0, 0.0), (1.0, 0.0), least=4) == [36, 4]
    assert counts(2, (1.0, 0.0), (1.0, 0.0), least=8) in ([2, 0], [0, 2])


def test_large_items_count_for_more() -> None:
    shares = spread([6.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0], [Hand(NODES[0]), Hand(NODES[1])])
    assert [(share.first, share.count) for share in shares] == [(0, 1), (1, 6)]


def test_every_item_is_done_once_and_in_order() -> None:
    for items in range(1, 60):
        hands = [Hand(NODES[i], 1.0 + i * i, 0.3 * (i % 2)) for i in range(1 + items % 4)]
        shares = spread([1.0 + (i * 7) % 5 for i in range(items)], hands)
        done = [
            place for share in shares for place in range(share.first, share.first + share.count)
        ]
        assert done == list(range(items))


def test_items_without_size_are_done_too() -> None:
    shares = spread([0.0, 0.0], [Hand(NODES[0], 1.0), Hand(NODES[1], 1.0)])
    assert sum(share.count for share in shares) == 2
