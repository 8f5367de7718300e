"""The seek table of a file kept as zstd: what is written, and what is not believed."""

from __future__ import annotations

import struct

import pytest

from dreamer.protocol.content.seek_table import encode_table, parse_table, table_bytes
from dreamer.protocol.errors import RemoteProtocolError
from dreamer.protocol.limits import BLOCK_BYTES
from dreamer.protocol.origin_limits import ORIGIN_FRAME_MAX_BYTES

SIZE = 2 * BLOCK_BYTES + 7
FRAMES = [100, 2000, 16]


def test_frames_are_found_by_the_number_of_their_block() -> None:
    data = encode_table(FRAMES, SIZE)
    assert len(data) == table_bytes(SIZE)
    table = parse_table(data, SIZE, sum(FRAMES) + len(data))
    assert [table.frame(number) for number in range(3)] == [(0, 100), (100, 2000), (2100, 16)]
    assert table.frames_bytes == 2116


def test_table_is_that_of_the_seekable_format() -> None:
    """Byte for byte, as zstd's document of version 0.1.0 has it."""
    data = encode_table(FRAMES, SIZE)
    head = struct.pack("<II", 0x184D2A5E, 3 * 8 + 9)
    entries = struct.pack("<6I", 100, BLOCK_BYTES, 2000, BLOCK_BYTES, 16, 7)
    assert data == head + entries + struct.pack("<IBI", 3, 0, 0x8F92EAB1)


def test_empty_file_has_an_empty_table() -> None:
    data = encode_table([], 0)
    assert parse_table(data, 0, len(data)).frames_bytes == 0


def changed(place: int, value: int) -> bytes:
    data = bytearray(encode_table(FRAMES, SIZE))
    data[place : place + 4] = struct.pack("<I", value)
    return bytes(data)


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(bytes(table_bytes(SIZE)), id="zeros"),
        pytest.param(changed(0, 0x184D2A50), id="other magic"),
        pytest.param(changed(4, 1), id="other length"),
        pytest.param(changed(8, 0), id="frame without bytes"),
        pytest.param(changed(8, ORIGIN_FRAME_MAX_BYTES + 1), id="frame too large"),
        pytest.param(changed(12, 2 * BLOCK_BYTES), id="block too large"),
        pytest.param(changed(8, 101), id="other sum"),
        pytest.param(changed(8 + 24, 2), id="other count"),
        pytest.param(encode_table([100, 2000], 2 * BLOCK_BYTES), id="of another file"),
    ],
)
def test_table_that_does_not_fit_its_file_is_refused(data: bytes) -> None:
    with pytest.raises(RemoteProtocolError):
        parse_table(data, SIZE, sum(FRAMES) + table_bytes(SIZE))
