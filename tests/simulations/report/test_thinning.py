"""Long series for pictures."""

from hypothesis import given
from hypothesis import strategies as st

from dreamer.simulations.report.thinning import binned, evenly, used, width_for

COUNTS = st.lists(st.integers(0, 10**12), max_size=300)


@given(COUNTS, st.integers(2, 50))
def test_first_and_last_stay_and_the_rest_keeps_its_order(items, count_max):
    kept = evenly(list(enumerate(items)), count_max)
    assert len(kept) == min(len(items), count_max)
    assert kept == sorted(kept)
    if items:
        assert kept[0] == (0, items[0])
        assert kept[-1] == (len(items) - 1, items[-1])


@given(COUNTS, st.integers(1, 50))
def test_bins_hold_every_byte(counts, bins_max):
    bins = binned(counts, width_for(len(counts), bins_max))
    assert sum(bins) == sum(counts)
    assert len(bins) <= bins_max


def test_a_quiet_end_is_not_used():
    assert [used(counts) for counts in ([], [0, 0], [1], [0, 3, 0, 0])] == [0, 0, 1, 2]
