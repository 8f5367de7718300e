"""What a server says of the bytes that it sends."""

from __future__ import annotations

import pytest

from dreamer.daemon.origin.faults import OriginError
from dreamer.daemon.origin.ranges import asked_range, check_range, declared_size


def test_both_ends_of_a_range_are_included() -> None:
    assert asked_range(4, 3) == "bytes=4-6"


@pytest.mark.parametrize("said", ["", "-4", "+4", "4.0", " 4", "4,4", "٤", "9" * 5000])
def test_what_is_no_size_counts_as_none(said: str) -> None:
    assert declared_size(said) is None


def test_size_is_read() -> None:
    assert declared_size("0") == 0
    assert declared_size(str(2**63)) == 2**63


@pytest.mark.parametrize(
    "said",
    [
        *("bytes 5-7/9", "bytes 4-7/9", "bytes 4-5/9", "bytes 4-6", "items 4-6/9"),
        *("bytes */9", "bytes 4-6/" + "9" * 5000, "bytes 4-" + "9" * 5000 + "/*"),
    ],
)
def test_other_bytes_than_asked_for_are_refused(said: str) -> None:
    with pytest.raises(OriginError, match="Range"):
        check_range("key", said, 3, 4, 3)


def test_the_bytes_asked_for_are_taken() -> None:
    check_range("key", "bytes 4-6/9", 3, 4, 3)
    check_range("key", "bytes 4-6/*", None, 4, 3)
    # Without a range only the whole key will do.
    check_range("key", "", 3, 0, 3)
    with pytest.raises(OriginError):
        check_range("key", "", 3, 4, 3)
