"""A public model's metadata: the info dict and piece layers of a hybrid torrent (BEP 52).

It is the bencoded dictionary ``{"info": …, "piece layers": …}``, which is a torrent file without
trackers, and is kept and sent as an object by its BLAKE3. Name, files and piece size follow from
the manifest, the rest from the files' bytes, so all who hold a model make the very same bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from blake3 import blake3

from dreamer.protocol import bencode
from dreamer.protocol.bencode import Bencoded
from dreamer.protocol.content.torrent_hashes import (
    SHA1_BYTES,
    SHA256_BYTES,
    TorrentHashes,
    root_of_layer,
)
from dreamer.protocol.content.torrent_layout import PAD_DIRECTORY, TorrentFile, TorrentLayout
from dreamer.protocol.errors import InputError
from dreamer.protocol.ids import Digest

_ONLY_V2 = (b"file tree", b"meta version")


@dataclass(frozen=True)
class Metadata:
    """The bytes of one torrent's info dict and its piece layers by root.

    The ``companion`` is the same without what came with BEP 52, for clients that can't read it
    (aria2 before 1.37, Transmission before 4): files and pieces are the same, the hash is another.
    """

    info: bytes
    layers: Mapping[bytes, bytes]

    @cached_property
    def v1(self) -> bytes:
        """The v1 info hash, 20 bytes."""
        return hashlib.sha1(self.info, usedforsecurity=False).digest()

    @cached_property
    def v2(self) -> bytes:
        """The v2 info hash, 32 bytes; trackers and RTC peers see the first 20."""
        return hashlib.sha256(self.info).digest()

    @cached_property
    def companion_info(self) -> bytes:
        """The info dict of the companion."""
        info = bencode.decode(self.info)
        assert isinstance(info, dict), "an info dict is a dictionary"
        return bencode.encode({key: info[key] for key in info if key not in _ONLY_V2})

    @cached_property
    def companion_v1(self) -> bytes:
        """The companion's info hash, 20 bytes."""
        return hashlib.sha1(self.companion_info, usedforsecurity=False).digest()

    @cached_property
    def object_bytes(self) -> bytes:
        """What is kept and sent."""
        return self.torrent((), ())

    @cached_property
    def digest(self) -> Digest:
        """The BLAKE3 that names the object."""
        return Digest(blake3(self.object_bytes).digest())

    def torrent(self, trackers: Sequence[str], web_seeds: Sequence[str]) -> bytes:
        """Return a torrent file; each tracker is a tier of its own (BEP 12), web seeds by BEP 19.

        Where there are neither, it is the object that members exchange.
        """
        found: dict[str, object] = {"info": bencode.decode(self.info), "piece layers": self.layers}
        return bencode.encode({**found, **_meeting(trackers, web_seeds)})

    def companion(self, trackers: Sequence[str], web_seeds: Sequence[str]) -> bytes:
        """Return the companion's torrent file."""
        info = bencode.decode(self.companion_info)
        return bencode.encode({"info": info, **_meeting(trackers, web_seeds)})


def _meeting(trackers: Sequence[str], web_seeds: Sequence[str]) -> dict[str, object]:
    found: dict[str, object] = {}
    if trackers:
        found["announce"] = trackers[0]
        found["announce-list"] = [[tracker] for tracker in trackers]
    if web_seeds:
        found["url-list"] = list(web_seeds)
    return found


def describe(layout: TorrentLayout, hashes: Sequence[TorrentHashes]) -> Metadata:
    """Return the metadata of a layout whose files, in manifest order, have these hashes."""
    info = {
        "file tree": _tree(layout, hashes),
        "files": [item for file in layout.files for item in _listed(file)],
        "meta version": 2,
        "name": layout.name,
        "piece length": layout.piece_bytes,
        "pieces": b"".join(hashes[file.index].pieces for file in layout.files),
    }
    layers = {each.root: each.layer for each in hashes if each.layer}
    return Metadata(bencode.encode(info), layers)


def _tree(layout: TorrentLayout, hashes: Sequence[TorrentHashes]) -> dict[bytes, object]:
    tree: dict[bytes, object] = {}
    for file in layout.files:
        node: dict[bytes, object] = tree
        for part in file.parts:
            inner = node.setdefault(part, {})
            assert isinstance(inner, dict), "the manifest's paths are files and directories"
            node = inner
        leaf: dict[str, object] = {"length": file.size_bytes}
        if file.size_bytes:
            leaf["pieces root"] = hashes[file.index].root
        node[b""] = leaf
    return tree


def _listed(file: TorrentFile) -> list[dict[str, object]]:
    listed: list[dict[str, object]] = [{"length": file.size_bytes, "path": list(file.parts)}]
    if file.pad_bytes:
        path = [PAD_DIRECTORY, str(file.pad_bytes)]
        listed.append({"attr": "p", "length": file.pad_bytes, "path": path})
    return listed


def parse(data: bytes, layout: TorrentLayout) -> Metadata:
    """Return the metadata in an object that a stranger sent for a model.

    All but its hashes has to be what the manifest implies; they can be wrong only in a way that
    makes a download from it fail.

    Raises:
        InputError: not bencoded, or not the metadata of this model.
    """
    found = bencode.decode(data)
    if not isinstance(found, dict) or sorted(found) != [b"info", b"piece layers"]:
        raise InputError("a torrent's metadata must be its info and piece layers, nothing else")
    info, layers = found[b"info"], found[b"piece layers"]
    if not isinstance(info, dict) or not isinstance(layers, dict):
        raise InputError("a torrent's info and piece layers must be dictionaries")
    metadata = describe(layout, _hashes(layout, info, layers))
    if metadata.object_bytes != data:
        raise InputError("the metadata is not that of this model's torrent")
    return metadata


def _hashes(
    layout: TorrentLayout, info: dict[bytes, Bencoded], layers: dict[bytes, Bencoded]
) -> list[TorrentHashes]:
    pieces = info.get(b"pieces")
    if not isinstance(pieces, bytes) or len(pieces) != layout.piece_count * SHA1_BYTES:
        raise InputError(f"the torrent of this model has {layout.piece_count} pieces")
    found = [TorrentHashes()] * len(layout.files)
    for file in layout.files:
        first, end = file.first_piece, file.first_piece + file.piece_count
        root = _root(info, file) if file.size_bytes else b""
        layer = _layer(layers, root, file, layout.piece_bytes) if file.piece_count > 1 else b""
        digests = pieces[first * SHA1_BYTES : end * SHA1_BYTES]
        found[file.index] = TorrentHashes(digests, root, layer)
    return found


def _root(info: dict[bytes, Bencoded], file: TorrentFile) -> bytes:
    node = info.get(b"file tree")
    for part in (*file.parts, b"", b"pieces root"):
        node = node.get(part) if isinstance(node, dict) else None
    if not isinstance(node, bytes) or len(node) != SHA256_BYTES:
        raise InputError("the torrent lacks the hash of a file of this model")
    return node


def _layer(
    layers: dict[bytes, Bencoded], root: bytes, file: TorrentFile, piece_bytes: int
) -> bytes:
    layer = layers.get(root)
    if not isinstance(layer, bytes) or len(layer) != file.piece_count * SHA256_BYTES:
        raise InputError("the torrent lacks the piece layer of a file of this model")
    starts = range(0, len(layer), SHA256_BYTES)
    if root_of_layer([layer[at : at + SHA256_BYTES] for at in starts], piece_bytes) != root:
        raise InputError("a piece layer of the torrent does not lead to its file's hash")
    return layer
