"""Names of things on the wire: raw bytes inside, lower-case hex towards people and JSON."""

from __future__ import annotations

from typing import NewType

from dreamer.protocol.errors import InputError

Digest = NewType("Digest", bytes)
"""A 32-byte BLAKE3 hash of a file, shard, block or object."""

ManifestId = NewType("ManifestId", bytes)
"""BLAKE3 (32 bytes) of a manifest's canonical bytes."""

NodeId = NewType("NodeId", bytes)
"""A node's Ed25519 public key, 32 bytes."""

RoomId = NewType("RoomId", bytes)
"""A room's Ed25519 public key, 32 bytes."""

InfoHash = NewType("InfoHash", bytes)
"""The 20 bytes that name a swarm to a tracker."""

DIGEST_BYTES = 32
SHORT_ID_DIGITS = 8


def short(identifier: bytes) -> str:
    """Return the first 8 hex digits, the form that people read and type."""
    return identifier.hex()[:SHORT_ID_DIGITS]


def from_hex(text: object, what: str, size_bytes: int = DIGEST_BYTES) -> bytes:
    """Return the bytes of a hex string of exactly ``size_bytes``.

    Raises:
        InputError: ``text`` is not a lower-case hex string of that length.
    """
    if isinstance(text, str) and len(text) == 2 * size_bytes and text == text.lower():
        try:
            return bytes.fromhex(text)
        except ValueError:
            pass
    raise InputError(f"{what} must be {2 * size_bytes} lower-case hex digits, not {text!r:.80}")
