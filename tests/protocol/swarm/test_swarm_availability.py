"""Bit-sliced counts, against a plain counter."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamer.protocol.swarm.availability import Availability
from dreamer.protocol.swarm.bitfield import members

BLOCKS = 70
holdings = st.lists(st.integers(0, 2**BLOCKS - 1), max_size=12)


def filled(held: list[int]) -> tuple[Availability, Counter[int]]:
    availability, counts = Availability(), Counter[int]()
    for blocks in held:
        availability.add(blocks)
        counts.update(members(blocks))
    return availability, counts


@given(holdings, st.data(), st.integers(1, 2**BLOCKS - 1))
def test_the_rarest_are_those_that_the_fewest_hold(
    held: list[int], data: st.DataObject, asked: int
) -> None:
    availability, counts = filled(held)
    for blocks in data.draw(
        st.lists(st.sampled_from(held or [0]), max_size=len(held), unique=True)
    ):
        if blocks in held:
            availability.remove(blocks)
            counts.subtract(members(blocks))
    fewest = min(counts[block] for block in members(asked))
    expected = {block for block in members(asked) if counts[block] == fewest}
    assert set(members(availability.rarest(asked))) == expected


@given(holdings)
def test_any_is_the_union(held: list[int]) -> None:
    availability, counts = filled(held)
    assert set(members(availability.any())) == set(counts)


@given(holdings)
def test_all_that_was_added_can_be_removed(held: list[int]) -> None:
    availability, _ = filled(held)
    for blocks in reversed(held):
        availability.remove(blocks)
    assert availability.any() == 0


def test_removing_what_was_never_added_is_a_bug() -> None:
    availability = Availability()
    availability.add(0b01)
    with pytest.raises(AssertionError):
        availability.remove(0b10)
