"""Frames of the bulk channel."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dreamer.protocol.errors import RemoteProtocolError
from dreamer.protocol.limits import BLOCK_BYTES, CHUNK_BYTES
from dreamer.protocol.link import bulk

word = st.integers(0, 2**32 - 1)


@given(word, word, st.integers(0, BLOCK_BYTES - 100), st.binary(min_size=1, max_size=100))
def test_a_frame_comes_back_as_it_went(request: int, block: int, at: int, payload: bytes) -> None:
    frame = bulk.decode(bulk.encode_header(request, block, at) + payload)
    assert (frame.request, frame.block, frame.offset) == (request, block, at)
    assert frame.payload == payload


@pytest.mark.parametrize(
    ("offset", "length"),
    [(0, 0), (0, CHUNK_BYTES + 1), (BLOCK_BYTES, 1), (BLOCK_BYTES - 5, 6), (2**32 - 1, 1)],
)
def test_a_frame_outside_its_bounds_is_the_peers_fault(offset: int, length: int) -> None:
    with pytest.raises(RemoteProtocolError):
        bulk.decode(bulk.encode_header(1, 2, offset) + bytes(length))


def test_the_largest_frame_is_taken() -> None:
    data = bulk.encode_header(1, 2, BLOCK_BYTES - CHUNK_BYTES) + bytes(CHUNK_BYTES)
    assert len(data) == bulk.FRAME_MAX_BYTES
    assert len(bulk.decode(data).payload) == CHUNK_BYTES


def test_a_frame_shorter_than_its_header_is_the_peers_fault() -> None:
    with pytest.raises(RemoteProtocolError):
        bulk.decode(b"\0" * 11)
