"""What one member tells another of a payload: tensors too large for a message."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dreamer.daemon.transport.vocabulary import Span
from dreamer.protocol.errors import RemoteProtocolError
from dreamer.protocol.ids import DIGEST_BYTES
from dreamer.protocol.limits import BLOCK_BYTES
from dreamer.protocol.offload_limits import OFFLOAD_PAYLOAD_MAX_BYTES


@dataclass(frozen=True)
class Payload:
    """What the other side must know of a payload. ``digests`` are those of its blocks, in order."""

    number: int
    size_bytes: int
    digests: bytes

    def check(self) -> None:
        """Refuse what can't be.

        Raises:
            RemoteProtocolError: the sizes don't fit together, or are too large.
        """
        blocks = -(-self.size_bytes // BLOCK_BYTES)
        fits = len(self.digests) == blocks * DIGEST_BYTES
        if not fits or not 0 < self.size_bytes <= OFFLOAD_PAYLOAD_MAX_BYTES:
            raise RemoteProtocolError(f"a payload of {self.size_bytes} bytes that can't be")

    def spans(self, path: Path) -> list[Span]:
        """Return each block's place in a file."""
        return [
            (place // BLOCK_BYTES, str(path), place, min(BLOCK_BYTES, self.size_bytes - place))
            for place in range(0, self.size_bytes, BLOCK_BYTES)
        ]

    def digest(self, block: int) -> bytes:
        """Return the BLAKE3 of a block."""
        return self.digests[block * DIGEST_BYTES : (block + 1) * DIGEST_BYTES]
