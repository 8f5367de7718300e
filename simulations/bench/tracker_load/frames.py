"""WebSocket frames of a client (RFC 6455), made as cheaply as Python can.

Every client frame must be masked. The bench masks with one key whose four bytes are equal, so that
a byte's mask doesn't depend on where it stands: pieces of a message are masked once, when the bench
starts, and joined as often as they are needed. The key isn't zero, which servers treat as a
shortcut; so they unmask what they would unmask for a real client.
"""

from __future__ import annotations

import struct

MASK_BYTE = 0x5A
_MASK = bytes([MASK_BYTE] * 4)
_MASKED = bytes(byte ^ MASK_BYTE for byte in range(256))
_SHORT_MAX_BYTES, _MEDIUM_MAX_BYTES = 125, 0xFFFF
_MASKED_BIT = 0x80
_LENGTH_16, _LENGTH_64 = 126, 127

TEXT, CLOSE, PING, PONG = 1, 8, 9, 10
FINAL = 0x80
_MEDIUM_HEADER = struct.Struct(">BBH4s")


def masked(data: bytes) -> bytes:
    """Return the bytes as they stand in a client's frame."""
    return data.translate(_MASKED)


def text_header(size_bytes: int) -> bytes:
    """Return what precedes a masked text of this size."""
    if _SHORT_MAX_BYTES < size_bytes <= _MEDIUM_MAX_BYTES:
        return _MEDIUM_HEADER.pack(FINAL | TEXT, _MASKED_BIT | _LENGTH_16, size_bytes, _MASK)
    return header(TEXT, size_bytes)


def header(opcode: int, size_bytes: int) -> bytes:
    """Return what precedes a masked payload of this size."""
    first = bytes([FINAL | opcode])
    if size_bytes <= _SHORT_MAX_BYTES:
        return first + bytes([_MASKED_BIT | size_bytes]) + _MASK
    if size_bytes <= _MEDIUM_MAX_BYTES:
        return first + struct.pack(">BH", _MASKED_BIT | _LENGTH_16, size_bytes) + _MASK
    return first + struct.pack(">BQ", _MASKED_BIT | _LENGTH_64, size_bytes) + _MASK


def frame(opcode: int, payload: bytes) -> bytes:
    """Return a whole frame of a client."""
    return header(opcode, len(payload)) + masked(payload)


def span(data: bytes, at: int) -> tuple[int, int] | None:
    """Return where the payload of a server's frame at ``at`` begins and ends.

    None: not even its header has come. The end may lie behind what has come.
    """
    have = len(data) - at
    if have < 2:
        return None
    length = data[at + 1]
    if length < _LENGTH_16:
        return at + 2, at + 2 + length
    if length == _LENGTH_16:
        if have < 4:
            return None
        return at + 4, at + 4 + (data[at + 2] << 8 | data[at + 3])
    if have < 10:
        return None
    return at + 10, at + 10 + int.from_bytes(data[at + 2 : at + 10])
