"""Bencoding: one form for each value, and nothing else is taken for one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamer.protocol import bencode
from dreamer.protocol.errors import InputError
from dreamer.protocol.limits import BENCODE_MAX_DEPTH, BENCODE_MAX_ITEMS

VALUES = st.recursive(
    st.integers(-(2**63), 2**63) | st.binary(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.binary(max_size=6), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(VALUES)
def test_what_is_encoded_is_decoded(value) -> None:
    assert bencode.decode(bencode.encode(value)) == value


def test_values_are_written_as_bep_3_says() -> None:
    value = {"spam": ["a", b"b"], "cow": -3, b"\xff": {}}
    assert bencode.encode(value) == b"d3:cowi-3e4:spaml1:a1:be1:\xffdee"


@pytest.mark.parametrize(
    "data",
    [
        *(
            b"",
            b"i1",
            b"i01e",
            b"i-0e",
            b"i 1e",
            b"i1_0e",
            b"ie",
            b"i--1e",
            b"i" + b"1" * 40 + b"e",
        ),
        *(b"-1:a", b"2:a", b"01:a", b"1a", b"l", b"li1e", b"d1:a", b"di1ei1ee", b"x", b"i1ei2e"),
        *(b"d1:bi1e1:ai1ee", b"d1:ai1e1:ai1ee"),
        b"l" * (BENCODE_MAX_DEPTH + 2) + b"e" * (BENCODE_MAX_DEPTH + 2),
        b"l" + b"0:" * (BENCODE_MAX_ITEMS + 1) + b"e",
    ],
)
def test_what_is_no_encoding_is_refused(data) -> None:
    with pytest.raises(InputError):
        bencode.decode(data)


@given(st.binary(max_size=40))
def test_any_bytes_are_refused_or_are_the_one_encoding(data) -> None:
    try:
        value = bencode.decode(data)
    except InputError:
        return
    assert bencode.encode(value) == data


@pytest.mark.parametrize("value", [True, 1.5, None, {1: 2}, {"a": 1, b"a": 2}])
def test_what_has_no_encoding_is_refused(value) -> None:
    with pytest.raises(InputError):
        bencode.encode(value)
