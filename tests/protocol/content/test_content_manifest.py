import json
from dataclasses import replace
from typing import Any

import pytest
from blake3 import blake3
from hypothesis import given
from hypothesis import strategies as st

from dreamer.protocol import canonical
from dreamer.protocol.content import manifest as manifests
from dreamer.protocol.content import outboard as outboards
from dreamer.protocol.content.groups import Group, Range
from dreamer.protocol.content.hashing import FileHasher, hash_blocks
from dreamer.protocol.content.manifest import FileEntry, Manifest
from dreamer.protocol.content.outboard import Outboard
from dreamer.protocol.errors import ManifestError
from dreamer.protocol.ids import Digest
from dreamer.protocol.limits import BLOCK_BYTES, MANIFEST_MAX_BYTES, SHARD_BYTES


def describe(contents: dict[str, bytes], groups: tuple[Group, ...] = ()) -> Manifest:
    entries = []
    hashes = b""
    for path, data in sorted(contents.items()):
        hasher = FileHasher()
        hasher.update(memoryview(data))
        found = hasher.finish()
        entries.append(FileEntry(path, len(data), found.digest, found.shards))
        hashes += hash_blocks(memoryview(data))
    outboard = Outboard(hashes)
    return Manifest(tuple(entries), outboard.digest, outboard.block_count, groups)


MODEL = describe(
    {"a/config.json": b"{}", "b": b"x" * (BLOCK_BYTES + 5), "empty": b""},
    (
        Group("layer.0", (Range(1, 0, 10), Range(1, 20, BLOCK_BYTES - 20))),
        Group("tokenizer", (Range(0, 0, 2), Range(1, 7, 1))),
    ),
)


@given(
    st.dictionaries(
        st.text(st.sampled_from("abcdefg"), min_size=1, max_size=4),
        st.binary(max_size=40),
        min_size=1,
        max_size=6,
    )
)
def test_manifest_survives_the_wire(contents: dict[str, bytes]) -> None:
    manifest = describe(contents)
    data = manifests.encode(manifest)
    assert manifests.parse(data) == manifest
    assert manifests.parse(data).id == manifests.manifest_id(data) == blake3(data).digest()


def test_groups_survive_the_wire() -> None:
    assert manifests.parse(manifests.encode(MODEL)) == MODEL
    assert MODEL.size_bytes == BLOCK_BYTES + 7
    assert MODEL.layout.block_count == MODEL.block_count == 3


def test_same_content_has_the_same_id() -> None:
    one = describe({"x": b"1", "y": b"2"})
    other = describe({"y": b"2", "x": b"1"})
    assert one.id == other.id


def tampered(**changes: object) -> bytes:
    return canonical.dumps({**json.loads(manifests.encode(MODEL)), **changes})


def first_file(**changes: object) -> list[Any]:
    files: list[Any] = json.loads(manifests.encode(MODEL))["files"]
    return [{**files[0], **changes}, *files[1:]]


HASH = "ab" * 32

BAD_MANIFESTS = {
    "not JSON": b"{",
    "not UTF-8": b'{"a":"\xff"}',
    "a list": b"[]",
    "spaced": b" " + manifests.encode(MODEL),
    "duplicate key": manifests.encode(MODEL).replace(b'{"blocks"', b'{"blocks":3,"blocks"', 1),
    "unknown key": tampered(name="x"),
    "no version": tampered(dreamer=None),
    "later version": tampered(dreamer=2),
    "version true": tampered(dreamer=True),
    "version float": tampered(dreamer=1.0),
    "no files": tampered(files=[]),
    "files not a list": tampered(files={}),
    "file not an object": tampered(files=["x"]),
    "unknown file key": tampered(files=first_file(mode=1)),
    "path a number": tampered(files=first_file(path=1)),
    "path climbs": tampered(files=first_file(path="../x")),
    "out of order": tampered(files=first_file(path="z")),
    "path twice": tampered(files=first_file(path="b")),
    "size negative": tampered(files=first_file(size=-1)),
    "size true": tampered(files=first_file(size=True)),
    "size float": tampered(files=first_file(size=2.0)),
    "size too large": tampered(files=first_file(size=1 << 60)),
    "size empties": tampered(files=first_file(size=0, shards=[])),
    "shard missing": tampered(files=first_file(shards=[])),
    "shard contradicts": tampered(files=first_file(shards=[HASH])),
    "shard too many": tampered(files=first_file(shards=[HASH, HASH])),
    "hash upper case": tampered(outboard=HASH.upper()),
    "hash short": tampered(outboard=HASH[2:]),
    "blocks wrong": tampered(blocks=4),
    "group overlap": tampered(groups=[{"name": "g", "ranges": [[1, 0, 10], [1, 5, 10]]}]),
    "group ranges meet": tampered(groups=[{"name": "g", "ranges": [[1, 0, 10], [1, 10, 10]]}]),
    "group out of file": tampered(groups=[{"name": "g", "ranges": [[0, 1, 2]]}]),
    "group of no file": tampered(groups=[{"name": "g", "ranges": [[3, 0, 1]]}]),
    "group range empty": tampered(groups=[{"name": "g", "ranges": [[1, 1, 0]]}]),
    "group range short": tampered(groups=[{"name": "g", "ranges": [[1, 1]]}]),
    "group empty": tampered(groups=[{"name": "g", "ranges": []}]),
    "group nameless": tampered(groups=[{"name": "", "ranges": [[0, 0, 1]]}]),
    "group twice": tampered(groups=[{"name": "g", "ranges": [[0, 0, 1]]}] * 2),
    "too long": b"{" + b" " * MANIFEST_MAX_BYTES,
    "deep": b"[" * 100_000,
}


@pytest.mark.parametrize("data", BAD_MANIFESTS.values(), ids=BAD_MANIFESTS.keys())
def test_bad_manifest_is_refused(data: bytes) -> None:
    with pytest.raises(ManifestError):
        manifests.parse(data)


def test_invalid_manifest_cannot_be_made() -> None:
    with pytest.raises(ManifestError, match="blocks"):
        replace(MODEL, block_count=2)
    digest, other = MODEL.files[0].digest, Digest(b"o" * 32)
    large = FileEntry("a", (1 << 40) - 1, digest, (digest,) * (1 << 14))
    with pytest.raises(ManifestError, match="too many blocks"):
        Manifest((large, FileEntry("b", 1, other, (other,))), digest, (1 << 20) + 1)


def test_one_hash_with_two_sizes_is_refused() -> None:
    digest = MODEL.files[0].digest
    short = FileEntry("a", 65 << 20, digest, (digest,) * 2)
    with pytest.raises(ManifestError, match="stands for another file"):
        Manifest((short, FileEntry("b", 130 << 20, digest, (digest,) * 3)), digest, 195)


def test_outboard_tells_good_blocks_from_bad() -> None:
    data = b"q" * (BLOCK_BYTES + 9)
    outboard = Outboard(hash_blocks(memoryview(data)))
    assert outboard.block_count == 2
    assert outboard.matches(0, data[:BLOCK_BYTES])
    assert outboard.matches(1, memoryview(data)[BLOCK_BYTES:])
    assert not outboard.matches(1, data[:BLOCK_BYTES])
    with pytest.raises(IndexError):
        outboard.hash_of(2)


def test_outboard_of_another_length_or_hash_is_refused() -> None:
    outboard = Outboard(hash_blocks(memoryview(b"x")))
    assert outboards.parse(outboard.hashes, 1, outboard.digest) == outboard
    with pytest.raises(ManifestError):
        outboards.parse(outboard.hashes, 2, outboard.digest)
    with pytest.raises(ManifestError):
        outboards.parse(bytes(32), 1, outboard.digest)


def test_hasher_agrees_with_blake3_across_shards() -> None:
    data = memoryview(bytes(range(256)) * ((SHARD_BYTES + BLOCK_BYTES) // 256))
    hasher = FileHasher()
    for start in range(0, len(data), 3 * BLOCK_BYTES):
        hasher.update(data[start : start + 3 * BLOCK_BYTES])
    found = hasher.finish()
    assert found.digest == Digest(blake3(data).digest())
    assert found.shards == (
        blake3(data[:SHARD_BYTES]).digest(),
        blake3(data[SHARD_BYTES:]).digest(),
    )
