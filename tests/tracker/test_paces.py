from __future__ import annotations

import pytest

from dreamer.tracker.paces import Paces


def test_burst_comes_at_once_and_then_one_by_one():
    paces = Paces(per_s=4.0, burst=3.0)
    assert [paces.delay_s("a", 10.0) for _ in range(5)] == [0, 0, 0, 0.25, 0.5]
    # Half a second paid the debt; nothing is there to spare yet.
    assert paces.delay_s("a", 10.5) == 0.25


def test_refused_try_costs_nothing():
    paces = Paces(per_s=1.0, burst=2.0)
    assert [paces.allows("a", 0.0) for _ in range(5)] == [True, True, False, False, False]
    assert paces.allows("a", 1.0)
    assert not paces.allows("a", 1.0)


def test_sum_of_many_fractions_is_a_whole_burst():
    paces = Paces(per_s=10.0, burst=200.0)
    assert [paces.allows("a", 0.0) for _ in range(201)] == [True] * 200 + [False]


def test_bucket_holds_no_more_than_a_burst_after_a_long_rest():
    paces = Paces(per_s=1.0, burst=2.0)
    paces.allows("a", 0.0)
    assert [paces.allows("a", 1e6) for _ in range(3)] == [True, True, False]


def test_everyone_has_a_bucket_of_their_own():
    paces = Paces(per_s=1.0, burst=1.0)
    assert paces.allows("a", 0.0)
    assert paces.allows("b", 0.0)
    assert not paces.allows("a", 0.0)


def test_full_buckets_are_forgotten_as_others_come():
    paces = Paces(per_s=1.0, burst=1.0)
    for number in range(1000):
        paces.allows(number, float(number))
    assert len(paces) < 5


@pytest.mark.parametrize("kept", [1, 10])
def test_what_is_remembered_has_an_end(monkeypatch, kept):
    monkeypatch.setattr("dreamer.tracker.paces.TRACKER_PACES_KEPT", kept)
    paces = Paces(per_s=1.0, burst=1.0)
    for number in range(100):
        paces.allows(number, 0.0)
    assert len(paces) == kept
    assert not paces.allows(99, 0.0)
