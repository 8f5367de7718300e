"""Stop strings end an answer wherever they stand, and no part of one is given out."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from dreamer.daemon.inference.answers.stops import Stops


def told(stops: tuple[str, ...], pieces: list[str]) -> tuple[list[str], bool]:
    """Return the texts given out for each piece, the rest at last, and whether it stopped."""
    looking, out = Stops(stops), []
    for piece in pieces:
        out.append(looking.push(piece))
        if looking.found:
            return out, True
    return [*out, looking.flush()], False


def test_text_without_stop_strings_passes_at_once() -> None:
    assert told((), ["ab", "c"]) == (["ab", "c", ""], False)


def test_stop_string_over_the_borders_of_pieces_is_found() -> None:
    assert told(("END",), ["so E", "N", "D and"]) == (["so ", "", ""], True)


def test_what_may_become_one_is_held_until_it_cannot() -> None:
    assert told(("END",), ["E", "N", "x"]) == (["", "", "ENx", ""], False)


def test_what_was_held_comes_at_the_end() -> None:
    assert told(("END",), ["so EN"]) == (["so ", "EN"], False)


def test_only_as_much_is_held_as_could_be_a_beginning() -> None:
    assert told(("aab",), ["aaa", "b"]) == (["a", ""], True)


def test_stop_that_ends_first_counts() -> None:
    assert told(("cde", "d"), ["xcde"]) == (["xc"], True)
    assert told(("bcd", "cd"), ["abcd"]) == (["a"], True)


TEXT = st.text("abc", max_size=30)


@given(TEXT, st.lists(st.text("abc", min_size=1, max_size=4), max_size=3), st.data())
def test_what_is_told_does_not_depend_on_where_pieces_end(
    text: str, stops: list[str], data: st.DataObject
) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    borders = [0, *cuts, len(text)]
    pieces = [text[a:b] for a, b in pairwise(borders)]
    out, stopped = told(tuple(stops), pieces)
    letters, letters_stopped = told(tuple(stops), list(text))
    assert ("".join(out), stopped) == ("".join(letters), letters_stopped)
    assert stopped == any(stop in text for stop in stops)
    assert not any(stop in "".join(out) for stop in stops)
    assert text.startswith("".join(out))
    if not stopped:
        assert "".join(out) == text
