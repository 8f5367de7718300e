"""Rows lie together, those being decoded first, and what they hold follows them."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from dreamer.daemon.inference.batch.places import CompactPlaces, FixedPlaces

Choices = st.lists(st.tuples(st.sampled_from(["join", "decode", "leave"]), st.integers(0, 7)))


class Memory:
    """Eight places, each holding the name of the row whose sequence it is."""

    def __init__(self) -> None:
        self.held: list[int | None] = [None] * 8

    def move(self, moves: list[tuple[int, int]]) -> None:
        for source, target in moves:
            self.held[target], self.held[source] = self.held[source], None

    def swap(self, pair: tuple[int, int] | None) -> None:
        if pair is not None:
            one, other = pair
            self.held[one], self.held[other] = self.held[other], self.held[one]


@given(Choices)
@settings(deadline=None)
def test_sequences_follow_their_rows_and_decoding_ones_lie_first(
    choices: list[tuple[str, int]],
) -> None:
    places, memory = CompactPlaces(), Memory()
    reading: list[int] = []
    decoding: list[int] = []
    for number, (what, which) in enumerate(choices):
        if what == "join" and len(reading) + len(decoding) < 8:
            memory.held[places.join(number)] = number
            reading.append(number)
        elif what == "decode" and reading:
            row = reading.pop(which % len(reading))
            memory.swap(places.begin_decoding(row))
            decoding.append(row)
        elif what == "leave" and (rows := reading + decoding):
            row = rows[which % len(rows)]
            memory.held[places.place(row)] = None
            memory.move(places.leave(row))
            (reading if row in reading else decoding).remove(row)
        for row in reading + decoding:
            assert memory.held[places.place(row)] == row
        assert sorted(places.span(), key=str) == sorted(decoding, key=str)
        assert [places.place(row) for row in places.span() if row is not None] == list(
            range(len(decoding))
        )


def test_a_row_that_leaves_costs_at_most_two_moves() -> None:
    places = CompactPlaces()
    for row in range(6):
        places.join(row)
    for row in range(4):
        places.begin_decoding(row)
    assert places.leave(1) == [(3, 1), (5, 3)]
    assert places.leave(3) == [(2, 1), (4, 2)]
    assert places.span() == [0, 2]


def test_fixed_rows_stay_and_the_span_reaches_to_the_last_decoded() -> None:
    places = FixedPlaces(4)
    assert [places.join(row) for row in (10, 11, 12)] == [0, 1, 2]
    assert places.span() == []
    places.begin_decoding(11)
    assert places.span() == [10, 11]
    places.begin_decoding(12)
    assert places.leave(11) == []
    assert places.span() == [10, None, 12]
    assert places.join(13) == 1
    assert places.span() == [10, 13, 12]
