"""Frames of the bulk channel: a 12-byte header and at most ``CHUNK_BYTES`` of one block.

The channel is unordered, so every frame says where it belongs: the request it answers, the block,
and the offset inside the block.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

from dreamer.protocol.errors import RemoteProtocolError
from dreamer.protocol.limits import BLOCK_BYTES, CHUNK_BYTES

HEADER = struct.Struct(">III")
FRAME_MAX_BYTES = HEADER.size + CHUNK_BYTES


@dataclass(frozen=True, slots=True)
class Frame:
    """A piece of a block; ``payload`` is a view into the received frame, not a copy."""

    request: int
    block: int
    offset: int
    payload: memoryview


def encode_header(request: int, block: int, offset: int) -> bytes:
    """Return the header that goes before a payload."""
    return HEADER.pack(request, block, offset)


def decode(data: bytes) -> Frame:
    """Return the frame in ``data``.

    Raises:
        RemoteProtocolError: too short, too long, or outside a block.
    """
    if not HEADER.size < len(data) <= FRAME_MAX_BYTES:
        raise RemoteProtocolError(f"a bulk frame of {len(data)} bytes")
    request, block, offset = HEADER.unpack_from(data)
    payload = memoryview(data)[HEADER.size :]
    if offset + len(payload) > BLOCK_BYTES:
        raise RemoteProtocolError("a bulk frame that reaches past its block")
    return Frame(request, block, offset, payload)
