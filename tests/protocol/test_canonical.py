"""Canonical JSON: one value, one byte string."""

from __future__ import annotations

import json
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamer.protocol import canonical
from dreamer.protocol.errors import InputError
from dreamer.protocol.limits import JSON_MAX_ITEMS

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
leaves = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | text
leaves = leaves.filter(lambda value: value not in (float("inf"), float("-inf")))
values = st.recursive(
    leaves, lambda v: st.lists(v, max_size=3) | st.dictionaries(text, v, max_size=3)
)


@given(st.dictionaries(text, values, max_size=4))
def test_what_is_written_is_read_back_and_written_the_same(value) -> None:
    data = canonical.dumps(value)
    assert canonical.loads(data) == value
    assert canonical.dumps(canonical.loads(data)) == data


@given(st.dictionaries(text, values, max_size=4))
def test_the_order_of_keys_does_not_matter(value) -> None:
    assert canonical.dumps(dict(reversed(value.items()))) == canonical.dumps(value)


@given(st.dictionaries(text, values, max_size=4))
def test_any_other_form_is_read_leniently_only(value) -> None:
    loose = json.dumps(value, indent=1).encode()
    assert canonical.loads_lenient(loose) == value
    with pytest.raises(InputError):
        canonical.loads(loose + b" ")


def test_the_bytes_are_these() -> None:
    assert (
        canonical.dumps({"b": [1, True, None], "a": "ä\n"})
        == '{"a":"ä\\n","b":[1,true,null]}'.encode()
    )


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"\xff",
        b"[]",
        b'"text"',
        b'{"a":1,"a":1}',
        b'{"b":1,"a":1}',
        b'{"a": 1}',
        b'{"a":1.0e0}',
        b'{"a":"\\u0041"}',
        b'{"a":NaN}',
        b"\xef\xbb\xbf{}",
        b'{"a":' * 200_000,
    ],
)
def test_what_is_not_canonical_is_refused(data: bytes) -> None:
    with pytest.raises(InputError):
        canonical.loads(data)


@pytest.mark.parametrize("value", [b"[]", b"{}", b"1", b'""'])
def test_more_values_than_anything_needs_are_refused_before_they_are_parsed(value) -> None:
    few = b'{"a":[' + b",".join([value] * (JSON_MAX_ITEMS // 3)) + b"]}"
    assert len(canonical.loads(few)["a"]) == JSON_MAX_ITEMS // 3
    many = b'{"a":[' + b",".join([value] * (JSON_MAX_ITEMS + 1)) + b"]}"
    for read in (canonical.loads, canonical.loads_lenient):
        tracemalloc.start()
        with pytest.raises(InputError, match="values"):
            read(many)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 10_000


@pytest.mark.parametrize("value", [{"a": float("nan")}, {"a": b"x"}, {"a": "\ud800"}, {"a": {1}}])
def test_what_json_has_no_form_for_is_refused(value) -> None:
    with pytest.raises(InputError):
        canonical.dumps(value)
