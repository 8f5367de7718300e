"""The hashes that a hybrid torrent names a file by: SHA-1 of pieces, a SHA-256 tree (BEP 3, 52).

They vouch for nothing here: what a torrent brings counts once its BLAKE3 is right. Both are made
of one read, piece by piece; ``hashlib`` releases the GIL, so two threads can share the work.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

from dreamer.protocol.limits import TORRENT_LEAF_BYTES

SHA1_BYTES = 20
SHA256_BYTES = 32
_NO_LEAF = bytes(SHA256_BYTES)


@dataclass(frozen=True)
class TorrentHashes:
    """One file: its pieces' SHA-1 joined, its tree's root, and the tree's layer of pieces joined.

    A file that has no bytes has none of them; one of a single piece has no layer, as BEP 52 says.
    """

    pieces: bytes = b""
    root: bytes = b""
    layer: bytes = b""


def piece_sha1(data: memoryview, size_bytes: int) -> bytes:
    """Return the SHA-1 of a piece of ``size_bytes``, zeros behind what there is of it (BEP 47)."""
    digest = hashlib.sha1(data, usedforsecurity=False)
    if len(data) < size_bytes:
        digest.update(bytes(size_bytes - len(data)))
    return digest.digest()


def piece_leaves(data: memoryview) -> list[bytes]:
    """Return the SHA-256 of each 16 KiB of a piece; the last may be of fewer bytes."""
    starts = range(0, len(data), TORRENT_LEAF_BYTES)
    return [hashlib.sha256(data[at : at + TORRENT_LEAF_BYTES]).digest() for at in starts]


def tree_root(leaves: list[bytes], width: int, filler: bytes = _NO_LEAF) -> bytes:
    """Return the root over ``leaves``, filled up with ``filler`` to ``width``, a power of two."""
    row = leaves + [filler] * (width - len(leaves))
    while len(row) > 1:
        row = [_above(row[at], row[at + 1]) for at in range(0, len(row), 2)]
    return row[0]


def _above(left: bytes, right: bytes) -> bytes:
    return hashlib.sha256(left + right).digest()


class FileTree:
    """Takes the leaves of a file's pieces in their order; ``finish`` returns layer and root."""

    def __init__(self, size_bytes: int, piece_bytes: int) -> None:
        self._size_bytes = size_bytes
        self._piece_bytes = piece_bytes
        self._layer: list[bytes] = []

    def add(self, leaves: list[bytes]) -> None:
        """Take the leaves of the next piece."""
        width = self._piece_bytes // TORRENT_LEAF_BYTES
        if self._size_bytes <= self._piece_bytes:
            # A file of one piece has a tree just large enough for it.
            width = power_of_two(len(leaves))
        self._layer.append(tree_root(leaves, width))

    def finish(self) -> tuple[bytes, bytes]:
        """Return root and layer; both empty for a file without bytes."""
        if len(self._layer) <= 1:
            return b"".join(self._layer), b""
        return root_of_layer(self._layer, self._piece_bytes), b"".join(self._layer)


def root_of_layer(layer: list[bytes], piece_bytes: int) -> bytes:
    """Return the root of a file of more than one piece."""
    width = piece_bytes // TORRENT_LEAF_BYTES
    # Pieces past the end are trees of nothing, not nothing.
    return tree_root(layer, power_of_two(len(layer)), tree_root([], width))


def power_of_two(count: int) -> int:
    """Return the smallest power of two that is not less than ``count``."""
    return 1 << max(0, count - 1).bit_length()


def hash_pieces(pieces: Iterable[memoryview], size_bytes: int, piece_bytes: int) -> TorrentHashes:
    """Return the hashes of a file of ``size_bytes`` whose pieces come one after the other."""
    tree, digests = FileTree(size_bytes, piece_bytes), bytearray()
    for piece in pieces:
        digests += piece_sha1(piece, piece_bytes)
        tree.add(piece_leaves(piece))
    root, layer = tree.finish()
    return TorrentHashes(bytes(digests), root, layer)
