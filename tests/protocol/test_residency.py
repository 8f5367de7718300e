"""Which models leave memory for one more."""

from __future__ import annotations

import pytest

from dreamer.protocol.residency import Bounds, Eviction, Resident, Room, make_room


def model(name: str, size: int, used: float, uses: int = 1, **more: bool) -> Resident:
    return Resident(name, size, used, uses, **more)


OLD, NEW = model("old", 30, 1.0, uses=9), model("new", 20, 2.0, uses=1)
PINNED = model("pinned", 10, 0.0, uses=0, pinned=True)
BUSY = model("busy", 40, 0.0, uses=0, busy=True)


@pytest.mark.parametrize(
    ("residents", "wanted", "bounds", "how", "expected"),
    [
        ([], 10, Bounds(1), "lru", Room()),
        ([OLD], 10, Bounds(2), "lru", Room()),
        ([OLD, NEW], 10, Bounds(2), "lru", Room(("old",))),
        ([OLD, NEW], 10, Bounds(2), "lfu", Room(("new",))),
        ([OLD, NEW], 10, Bounds(1), "lru", Room(("old", "new"))),
        ([PINNED, NEW], 10, Bounds(2), "lru", Room(("new",))),
        ([PINNED], 10, Bounds(1), "lru", Room(("pinned",))),
        # By bytes: only as many as are needed, and none that a later, larger one made needless.
        ([OLD, NEW], 30, Bounds(9, 70), "lru", Room(("old",))),
        ([OLD, NEW], 30, Bounds(9, 80), "lru", Room()),
        ([NEW, model("large", 60, 3.0)], 30, Bounds(9, 80), "lru", Room(("large",))),
        ([OLD, NEW], 101, Bounds(9, 100), "lru", Room(too_large=True)),
        ([OLD, NEW], 100, Bounds(9, 100), "lru", Room(("old", "new"))),
        # Who is busy goes after all others, and nobody goes before it does.
        ([BUSY, NEW], 10, Bounds(2), "lru", Room(("new",))),
        ([BUSY, NEW], 70, Bounds(9, 100), "lru", Room(awaited=("busy",))),
        ([BUSY, NEW], 90, Bounds(9, 100), "lru", Room(awaited=("busy",))),
        ([BUSY], 10, Bounds(0), "lfu", Room(awaited=("busy",))),
    ],
)
def test_room_for_one_more(
    residents: list[Resident], wanted: int, bounds: Bounds, how: Eviction, expected: Room
) -> None:
    assert make_room(residents, wanted, bounds, how) == expected
