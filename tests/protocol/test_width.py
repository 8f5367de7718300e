"""How many transfers run side by side, found by trying."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from dreamer.protocol.limits import WIDTH_WINDOW_S
from dreamer.protocol.width import Width

MOST = 12
MB = 1e6


def run(width: Width, rate_at: Callable[[int], float], windows: int) -> list[int]:
    """Let so many windows pass at the rate (bytes/s) that each width has; return the widths."""
    now, seen = 0.0, []
    width.idle()
    width.moved(0, now)
    for _ in range(windows):
        for _ in range(4):
            now += WIDTH_WINDOW_S / 4
            width.moved(round(rate_at(width.now) * WIDTH_WINDOW_S / 4), now)
        seen.append(width.now)
    return seen


def mean(widths: list[int]) -> float:
    return sum(widths) / len(widths)


def test_where_each_connection_gets_a_part_there_are_soon_many() -> None:
    width = Width(4, MOST)
    seen = run(width, lambda n: n * 10 * MB, 40)
    assert seen[12] == MOST
    assert mean(seen[20:]) > MOST - 1


def test_where_one_fills_the_wire_there_are_few() -> None:
    seen = run(Width(4, MOST), lambda n: 100 * MB, 100)
    assert mean(seen[-20:]) < 3.0


def test_the_best_is_found_and_kept() -> None:
    seen = run(Width(2, MOST), lambda n: min(n, 6) * 10 * MB, 80)
    assert 5.0 <= mean(seen[-40:]) <= 7.0


def test_a_change_is_noticed() -> None:
    width = Width(4, MOST)
    run(width, lambda n: 100 * MB, 60)
    assert mean(run(width, lambda n: n * 10 * MB, 60)[-10:]) > 8


@pytest.mark.parametrize("start", [1, 4, MOST])
def test_it_never_leaves_its_bounds(start: int) -> None:
    seen = run(Width(start, MOST), lambda n: 50 * MB / n, 60) + run(
        Width(start, MOST), lambda n: n * MB, 60
    )
    assert min(seen) >= 1
    assert max(seen) <= MOST


def test_idle_time_counts_for_nothing() -> None:
    width = Width(4, MOST)
    run(width, lambda n: 10 * MB, 1)
    before = width._rate
    width.idle()
    width.moved(1, 1000.0)
    width.moved(round(10 * MB), 1000.0 + WIDTH_WINDOW_S)
    assert width._rate == pytest.approx(before, rel=0.01)
