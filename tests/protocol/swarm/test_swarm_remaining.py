"""Counting down what is missing, against adding it up."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dreamer.protocol.content.layout import Layout
from dreamer.protocol.limits import BLOCK_BYTES
from dreamer.protocol.swarm.bitfield import full, members
from dreamer.protocol.swarm.remaining import Remaining

sizes = st.lists(st.integers(0, 4 * BLOCK_BYTES), min_size=1, max_size=6)


@given(sizes, st.integers(0, 2**24 - 1), st.lists(st.integers(0, 2**24 - 1), max_size=8))
def test_bytes_and_files_agree_with_the_blocks(
    sizes: list[int], present: int, taken: list[int]
) -> None:
    layout = Layout(sizes)
    remaining = Remaining(layout, present & full(layout.block_count))
    whole = remaining.whole_files()
    for blocks in taken:
        whole += remaining.take(blocks & full(layout.block_count))
        missing = set(members(remaining.blocks))
        assert remaining.size_bytes == sum(layout.block_size(block) for block in missing)
        assert sorted(whole) == [
            index
            for index in range(layout.file_count)
            if not missing & set(layout.blocks_of_file(index))
        ]
