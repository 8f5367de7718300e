"""What is asked of an origin, counted on the wire: with credentials, and by signed URLs."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from typing import Any

import pytest

from dreamer.daemon.origin.bucket import Bucket
from dreamer.daemon.origin.faults import OriginMissingError
from dreamer.daemon.origin.presigned import PresignedBucket
from dreamer.protocol.limits import BLOCK_BYTES
from dreamer.protocol.origin import parse_origin

ORIGIN = "s3://team/some/prefix"
HEX = "ab" * 32
KEY = f"some/prefix/files/{HEX}"


class Count:
    """A meter that remembers."""

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()
        self.up = 0
        self.down = 0
        self.elsewhere = 0

    def requested(self, kind: str, where: str, up_bytes: int) -> None:
        self.requests[kind] += 1
        self.up += up_bytes
        self.elsewhere += HEX not in where

    def received(self, where: str, size_bytes: int) -> None:
        self.down += size_bytes
        self.elsewhere += bool(size_bytes) and HEX not in where


@pytest.fixture
def count() -> Count:
    return Count()


@pytest.fixture(params=["credentials", "urls"])
def bucket(request: Any, s3: Any, s3_url: str, signing: Any, count: Count) -> Any:
    address = parse_origin(ORIGIN, s3_url)
    made = (
        Bucket(address, count)
        if request.param == "credentials"
        else PresignedBucket(address, signing(ORIGIN, s3_url), count)
    )
    with closing(made) as it:
        yield it


def test_every_request_and_every_byte_is_counted_once(bucket: Any, count: Count) -> None:
    data = b"x" * (2 * BLOCK_BYTES)
    bucket.put(KEY, data)
    assert (count.requests, count.up) == ({"puts": 1}, len(data))
    assert bucket.size(KEY) == len(data)
    assert b"".join(bucket.get(KEY, 5, BLOCK_BYTES)) == data[:BLOCK_BYTES]
    assert count.requests == {"puts": 1, "gets": 2}
    assert (count.down, count.up, count.elsewhere) == (BLOCK_BYTES, len(data), 0)


def test_of_an_answer_that_is_given_up_what_was_read_counts(bucket: Any, count: Count) -> None:
    data = b"x" * (8 * BLOCK_BYTES)
    bucket.put(KEY, data)
    with closing(bucket.get(KEY, 0, len(data))) as pieces:
        read = len(next(pieces))
    assert 0 < read <= count.down < len(data)


def test_a_request_for_what_is_not_there_is_paid_for_too(bucket: Any, count: Count) -> None:
    with pytest.raises(OriginMissingError):
        list(bucket.get(KEY, 0, 5))
    assert count.requests == {"gets": 1}
