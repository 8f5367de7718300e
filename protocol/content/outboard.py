"""The outboard: the BLAKE3 of every block of a model, 32 bytes each, in block order, one object.

The manifest carries the hash of these bytes, so whoever trusts the manifest can check any block
by itself, whoever sent it.
"""

from __future__ import annotations

from dataclasses import dataclass

from blake3 import blake3

from dreamer.protocol.errors import ManifestError
from dreamer.protocol.ids import DIGEST_BYTES, Digest


@dataclass(frozen=True)
class Outboard:
    """Block hashes, joined."""

    hashes: bytes

    @property
    def block_count(self) -> int:
        """Number of blocks."""
        return len(self.hashes) // DIGEST_BYTES

    @property
    def digest(self) -> Digest:
        """The hash that a manifest names this outboard by."""
        return Digest(blake3(self.hashes).digest())

    def hash_of(self, block: int) -> Digest:
        """Return the hash of a block; raises IndexError if there is no such block."""
        # A slice past the end would be an empty hash, not an error.
        if not 0 <= block < self.block_count:
            raise IndexError(f"block {block} of {self.block_count}")
        return Digest(self.hashes[block * DIGEST_BYTES : (block + 1) * DIGEST_BYTES])

    def matches(self, block: int, data: bytes | bytearray | memoryview) -> bool:
        """Say whether ``data`` is what ``block`` should hold."""
        return blake3(data).digest() == self.hash_of(block)


def parse(data: bytes, block_count: int, digest: Digest) -> Outboard:
    """Return the outboard of a manifest that names ``block_count`` blocks and ``digest``.

    Raises:
        ManifestError: the length or the hash is another.
    """
    # The length first: it is cheap, and says more than a hash that differs.
    if len(data) != block_count * DIGEST_BYTES:
        raise ManifestError(f"an outboard of {len(data)} bytes for {block_count} blocks")
    outboard = Outboard(data)
    if outboard.digest != digest:
        raise ManifestError("an outboard that its manifest does not name")
    return outboard
