import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamer.protocol.content.layout import Layout, Span
from dreamer.protocol.limits import BLOCK_BYTES

sizes_of_models = st.lists(
    st.one_of(st.just(0), st.integers(0, 5 * BLOCK_BYTES), st.just(2 * BLOCK_BYTES)), max_size=12
)


@given(sizes_of_models)
def test_blocks_cover_every_byte_of_every_file_once(sizes: list[int]) -> None:
    layout = Layout(sizes)
    covered = [0] * len(sizes)
    for block in range(layout.block_count):
        span = layout.span(block)
        assert span.offset == covered[span.file_index]
        assert 0 < span.length <= BLOCK_BYTES
        assert block in layout.blocks_of_file(span.file_index)
        covered[span.file_index] += span.length
    assert covered == sizes


@given(sizes_of_models, st.data())
def test_runs_stay_within_files_and_lose_nothing(sizes: list[int], data: st.DataObject) -> None:
    layout = Layout(sizes)
    start = data.draw(st.integers(0, layout.block_count))
    stop = data.draw(st.integers(start, layout.block_count))
    runs = layout.runs(range(start, stop))
    assert [block for run in runs for block in run] == list(range(start, stop))
    for run in runs:
        assert {layout.file_of(block) for block in run} == {layout.file_of(run.start)}


def test_empty_file_has_no_blocks() -> None:
    layout = Layout([0, 10, 0, BLOCK_BYTES + 1, 0])
    assert [len(layout.blocks_of_file(index)) for index in range(5)] == [0, 1, 0, 2, 0]
    assert layout.span(0) == Span(1, 0, 10)
    assert layout.span(2) == Span(3, BLOCK_BYTES, 1)
    assert layout.block_size(1) == BLOCK_BYTES
    assert layout.file_count == 5


@pytest.mark.parametrize("block", [-1, 3])
def test_block_that_is_not_there_is_an_error(block: int) -> None:
    with pytest.raises(IndexError):
        Layout([10, BLOCK_BYTES + 1]).span(block)


def test_range_touches_the_blocks_it_overlaps() -> None:
    layout = Layout([10, 4 * BLOCK_BYTES])
    assert layout.blocks_of_range(1, BLOCK_BYTES - 1, 2) == range(1, 3)
    assert layout.blocks_of_range(1, BLOCK_BYTES, BLOCK_BYTES) == range(2, 3)
