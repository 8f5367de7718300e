"""How writers of one registry come to take turns."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest

from dreamer.daemon.room.contention import Contention
from dreamer.protocol.registry_limits import (
    REGISTRY_CROWD_MAX,
    REGISTRY_RETRY_MAX_S,
    REGISTRY_YIELD,
)


class Highest(Random):
    """Chance at its worst."""

    def uniform(self, a: float, b: float) -> float:
        return b


@pytest.fixture
def writer():
    return Contention(Highest())


def test_writer_that_is_alone_waits_for_nothing(writer):
    for now in range(5):
        assert writer.courtesy_s(now) == 0.0
        writer.won(now)


def test_pauses_double_up_to_a_bound(writer):
    pauses = [writer.lost() for _ in range(20)]
    assert [second / first for first, second in pairwise(pauses[:4])] == [2] * 3
    assert max(pauses) == pauses[-1] == REGISTRY_RETRY_MAX_S


def test_who_won_against_others_lets_them_go_first(writer):
    for _ in range(3):
        pause_s = writer.lost()
    writer.won(100.0)
    assert writer.courtesy_s(100.0) == pytest.approx(REGISTRY_YIELD * pause_s / 2)
    # Who comes back later has waited already.
    assert writer.courtesy_s(100.0 + pause_s) == 0.0


def test_crowd_that_is_gone_is_forgotten(writer):
    for _ in range(50):
        writer.lost()
    for now in range(REGISTRY_CROWD_MAX):
        writer.won(now)
    assert writer.courtesy_s(REGISTRY_CROWD_MAX - 1) == 0.0


def test_pauses_of_two_writers_differ():
    one, other = Contention(Random(1)), Contention(Random(2))
    assert [one.lost() for _ in range(5)] != [other.lost() for _ in range(5)]
