"""Names as people and JSON write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamer.protocol.errors import InputError
from dreamer.protocol.ids import from_hex, short


@given(st.binary(min_size=32, max_size=32))
def test_hex_comes_back_as_bytes(name: bytes) -> None:
    assert from_hex(name.hex(), "a name") == name
    assert name.hex().startswith(short(name))
    assert len(short(name)) == 8


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ab",
        "AB" * 32,
        "g" * 64,
        "0" * 63,
        "0" * 65,
        " " + "0" * 63,
        "0x" + "0" * 62,
        None,
        5,
        b"0" * 64,
        "0 " * 32,
        "٠" * 64,
    ],
)
def test_anything_else_is_refused_with_its_name(text) -> None:
    with pytest.raises(InputError, match="the file hash must be 64 lower-case hex digits"):
        from_hex(text, "the file hash")


def test_the_refusal_of_a_huge_text_is_short() -> None:
    with pytest.raises(InputError) as error:
        from_hex("z" * 1_000_000, "it")
    assert len(str(error.value)) < 200


def test_other_sizes_can_be_asked_for() -> None:
    assert from_hex("00ff", "it", 2) == b"\x00\xff"
