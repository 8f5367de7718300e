"""The seek table of a file in zstd's seekable format, one frame for each block.

Source: ``contrib/seekable_format/zstd_seekable_compression_format.md`` of zstd, version 0.1.0. The
frames are followed by a skippable frame that any zstd decoder passes over::

    magic 0x184D2A5E · size of what follows · entries · footer (9 bytes)
    entry   compressed size · decompressed size [· checksum], 4 bytes each, little-endian
    footer  number of frames (4) · descriptor (1, bit 7: entries have checksums) · magic 0x8F92EAB1

We write no checksums: each block has its BLAKE3. What is read was written by anybody, so a table is
taken only if it says of the file what its manifest says, and names no frame that zstd never makes.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate

from dreamer.protocol.content.layout import blocks_in
from dreamer.protocol.errors import RemoteProtocolError
from dreamer.protocol.limits import BLOCK_BYTES
from dreamer.protocol.origin_limits import ORIGIN_FRAME_MAX_BYTES

_SKIPPABLE_MAGIC = 0x184D2A5E
_SEEKABLE_MAGIC = 0x8F92EAB1
_HEADER = struct.Struct("<II")
_ENTRY = struct.Struct("<II")
_FOOTER = struct.Struct("<IBI")


@dataclass(frozen=True)
class SeekTable:
    """Where the frame of each block of a file lies; ``ends`` are running sums of their sizes."""

    ends: tuple[int, ...]

    @property
    def frames_bytes(self) -> int:
        """The size of all frames, which is where the table begins."""
        return self.ends[-1] if self.ends else 0

    def frame(self, number: int) -> tuple[int, int]:
        """Return the offset and size in bytes of the frame of the file's block ``number``."""
        start = self.ends[number - 1] if number else 0
        return start, self.ends[number] - start


def table_bytes(size_bytes: int) -> int:
    """Return the size of the seek table of a file of ``size_bytes``, decompressed."""
    return _HEADER.size + blocks_in(size_bytes) * _ENTRY.size + _FOOTER.size


def encode_table(frame_sizes: Sequence[int], size_bytes: int) -> bytes:
    """Return the seek table of a file of ``size_bytes`` whose blocks take ``frame_sizes`` bytes."""
    count = len(frame_sizes)
    assert count == blocks_in(size_bytes), "a frame for each block"
    entries = b"".join(
        _ENTRY.pack(frame, _block_size(number, size_bytes))
        for number, frame in enumerate(frame_sizes)
    )
    footer = _FOOTER.pack(count, 0, _SEEKABLE_MAGIC)
    return _HEADER.pack(_SKIPPABLE_MAGIC, len(entries) + len(footer)) + entries + footer


def parse_table(data: bytes, size_bytes: int, encoded_bytes: int) -> SeekTable:
    """Return the table that ends an encoded file of ``encoded_bytes``.

    ``data`` are its last ``table_bytes(size_bytes)`` bytes, ``size_bytes`` the decompressed size.

    Raises:
        RemoteProtocolError: it is none, or not that of a file of these sizes.
    """
    count = blocks_in(size_bytes)
    head = _HEADER.pack(_SKIPPABLE_MAGIC, table_bytes(size_bytes) - _HEADER.size)
    foot = _FOOTER.pack(count, 0, _SEEKABLE_MAGIC)
    whole = len(data) == table_bytes(size_bytes) and data.startswith(head) and data.endswith(foot)
    entries = data[_HEADER.size : -_FOOTER.size] if whole else b""
    pairs = list(_ENTRY.iter_unpack(entries))
    good = len(pairs) == count and all(
        0 < frame <= ORIGIN_FRAME_MAX_BYTES and block == _block_size(number, size_bytes)
        for number, (frame, block) in enumerate(pairs)
    )
    table = SeekTable(tuple(accumulate(frame for frame, _ in pairs)))
    if not whole or not good or table.frames_bytes + len(data) != encoded_bytes:
        raise RemoteProtocolError("a file's seek table does not fit the file: push it again")
    return table


def _block_size(number: int, size_bytes: int) -> int:
    return min(BLOCK_BYTES, size_bytes - number * BLOCK_BYTES)
