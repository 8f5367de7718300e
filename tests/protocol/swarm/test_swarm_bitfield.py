"""Sets of blocks as integers, against Python's own sets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamer.protocol.errors import RemoteProtocolError
from dreamer.protocol.swarm import bitfield

sets = st.sets(st.integers(0, 200))


def packed(blocks: set[int]) -> int:
    return sum(1 << block for block in blocks)


@given(sets)
def test_members_are_those_of_the_set_in_order(blocks: set[int]) -> None:
    assert list(bitfield.members(packed(blocks))) == sorted(blocks)


@given(sets, st.integers(201, 300))
def test_a_bitfield_comes_back_as_it_went(blocks: set[int], block_count: int) -> None:
    data = bitfield.encode(packed(blocks), block_count)
    assert len(data) == -(-block_count // 8)
    assert bitfield.decode(data, block_count) == packed(blocks)


@given(sets, st.integers(1, 20))
def test_runs_cover_the_set_once_and_are_as_long_as_they_may_be(
    blocks: set[int], limit: int
) -> None:
    runs = list(bitfield.runs(packed(blocks), limit))
    covered = [block for first, count in runs for block in range(first, first + count)]
    assert covered == sorted(blocks)
    for first, count in runs:
        assert count == limit or first + count not in blocks


@given(sets.filter(bool), st.integers(0, 250))
def test_the_first_at_or_after_a_place_goes_round_the_end(blocks: set[int], at: int) -> None:
    later = [block for block in blocks if block >= at]
    assert bitfield.first_at_or_after(packed(blocks), at) == min(later or blocks)


@given(st.integers(0, 100), st.integers(0, 100))
def test_a_span_is_a_range(first: int, count: int) -> None:
    assert bitfield.span(first, count) == packed(set(range(first, first + count)))


def test_bits_are_numbered_from_the_lowest_of_the_first_byte() -> None:
    assert bitfield.encode(packed({0, 9}), 10) == bytes([0b1, 0b10])


@pytest.mark.parametrize(
    ("data", "block_count"),
    [(b"", 1), (b"\0\0", 8), (b"\x80", 7), (b"\0\x02", 9)],
    ids=["too short", "too long", "a bit too many", "a bit too many in the last byte"],
)
def test_a_bitfield_of_another_size_is_the_peers_fault(data: bytes, block_count: int) -> None:
    with pytest.raises(RemoteProtocolError):
        bitfield.decode(data, block_count)
