"""Hashes of content while it passes by: of a file and its shards, and of blocks.

They come apart so that two threads can share the work; BLAKE3 releases the GIL.
"""

from __future__ import annotations

from dataclasses import dataclass

from blake3 import blake3

from dreamer.protocol.ids import Digest
from dreamer.protocol.limits import BLOCK_BYTES, SHARD_BYTES


@dataclass(frozen=True)
class FileHashes:
    """What a manifest says of a file's bytes: its hash and those of its 64 MiB shards."""

    digest: Digest
    shards: tuple[Digest, ...]


def hash_blocks(data: memoryview) -> bytes:
    """Return the joined hashes of the blocks in ``data``, which begins at a block's beginning."""
    starts = range(0, len(data), BLOCK_BYTES)
    return b"".join(blake3(data[start : start + BLOCK_BYTES]).digest() for start in starts)


class FileHasher:
    """Hashes one file, and each of its shards, in one pass from beginning to end."""

    def __init__(self) -> None:
        self._whole = blake3()
        self._shard = blake3()
        self._shards: list[Digest] = []
        self._in_shard = 0

    def update(self, data: memoryview) -> None:
        """Take the next bytes of the file."""
        self._whole.update(data)
        while data:
            # The caller's pieces need not end where shards do.
            piece = data[: SHARD_BYTES - self._in_shard]
            self._shard.update(piece)
            self._in_shard += len(piece)
            if self._in_shard == SHARD_BYTES:
                self._end_shard()
            data = data[len(piece) :]

    def _end_shard(self) -> None:
        self._shards.append(Digest(self._shard.digest()))
        self._shard = blake3()
        self._in_shard = 0

    def finish(self) -> FileHashes:
        """Return the hashes of all the bytes taken."""
        # The last shard is short, and an empty file has none at all.
        if self._in_shard:
            self._end_shard()
        return FileHashes(Digest(self._whole.digest()), tuple(self._shards))
