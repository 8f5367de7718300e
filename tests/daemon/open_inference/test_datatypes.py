"""Values as bytes and back, whatever they are."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamer.daemon.inference.tensors import ELEMENT_BYTES
from dreamer.daemon.open_inference.datatypes import (
    check_size,
    pack,
    pack_strings,
    split_strings,
    unpack,
)
from dreamer.protocol.errors import InputError

WHOLE = [name for name in ELEMENT_BYTES if "INT" in name]


@given(st.lists(st.text()))
def test_texts_come_back(texts):
    assert unpack(pack(texts, "BYTES", "x"), "BYTES", "x") == texts


@given(st.lists(st.binary()))
def test_strings_come_back(strings):
    assert [bytes(one) for one in split_strings(pack_strings(strings), "x")] == strings


@given(st.binary(max_size=60), st.integers(0, 5))
def test_any_bytes_are_texts_or_refused(data, count):
    try:
        check_size(data, "BYTES", (count,), "x")
    except InputError:
        return
    assert len(split_strings(data, "x")) == count


@pytest.mark.parametrize("datatype", WHOLE)
def test_whole_numbers_come_back_up_to_their_bounds(datatype):
    bits = ELEMENT_BYTES[datatype] * 8
    low, high = (
        (0, 2**bits - 1) if datatype[0] == "U" else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    )
    assert unpack(pack([low, high], datatype, "x"), datatype, "x") == [low, high]
    for beyond in (low - 1, high + 1):
        with pytest.raises(InputError, match=datatype):
            pack([beyond], datatype, "x")


@given(st.lists(st.floats()))
def test_doubles_come_back_bit_for_bit(values):
    again = unpack(pack(values, "FP64", "x"), "FP64", "x")
    for one, other in zip(again, values, strict=True):
        assert one == other or (math.isnan(one) and math.isnan(other))


def test_million_empty_texts_of_one_are_refused_without_being_listed():
    with pytest.raises(InputError, match="has 2 elements"):
        check_size(bytes(4 * 2**20), "BYTES", (1,), "x")
