"""The manifest: what a model consists of, by hashes. Its own hash is the model's id.

On the wire it is canonical JSON (``canonical.py``) without name or time, so the same content has
the same id wherever it is made::

    {"blocks": 3, "dreamer": 1,
     "files": [{"hash": …, "path": "a/b", "shards": [hash, …], "size": 2200000}, …],
     "groups": [{"name": …, "ranges": [[file index, offset, length], …]}, …],
     "outboard": hash of the block hashes}

A ``Manifest`` that exists is valid: every rule is checked when one is made.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

from blake3 import blake3

from dreamer.protocol import canonical
from dreamer.protocol.content.groups import Group, Range, check_groups
from dreamer.protocol.content.layout import Layout
from dreamer.protocol.content.paths import check_paths
from dreamer.protocol.errors import InputError, ManifestError
from dreamer.protocol.ids import DIGEST_BYTES, Digest, ManifestId, from_hex
from dreamer.protocol.limits import (
    MANIFEST_MAX_BYTES,
    MODEL_MAX_BYTES,
    OUTBOARD_MAX_BYTES,
    SHARD_BYTES,
)

VERSION = 1
_EMPTY_DIGEST = Digest(blake3(b"").digest())


@dataclass(frozen=True)
class FileEntry:
    """One file: its path, size, BLAKE3, and the BLAKE3 of each 64 MiB shard."""

    path: str
    size_bytes: int
    digest: Digest
    shards: tuple[Digest, ...]


@dataclass(frozen=True)
class Manifest:
    """A model's files in the order of their paths, the outboard's hash, and its groups.

    Raises:
        ManifestError: from the constructor, when the parts break a rule of the format.
    """

    files: tuple[FileEntry, ...]
    outboard: Digest
    block_count: int
    groups: tuple[Group, ...] = ()

    def __post_init__(self) -> None:
        # First: the layout is worth nothing until sizes are known to be sane.
        _check_files(self.files)
        if self.block_count != self.layout.block_count:
            raise ManifestError(
                f"{self.block_count} blocks declared for files of {self.layout.block_count}"
            )
        # Nobody could fetch an outboard over its limit, so such a model must not exist.
        if self.block_count * DIGEST_BYTES > OUTBOARD_MAX_BYTES:
            raise ManifestError("the model has too many blocks: publish it in parts")
        check_groups(self.groups, [entry.size_bytes for entry in self.files])

    @cached_property
    def layout(self) -> Layout:
        """Where each block lies."""
        return Layout(entry.size_bytes for entry in self.files)

    @cached_property
    def size_bytes(self) -> int:
        """Bytes of all files together."""
        return sum(entry.size_bytes for entry in self.files)

    @cached_property
    def id(self) -> ManifestId:
        """The model's id."""
        return manifest_id(encode(self))


def _check_files(files: tuple[FileEntry, ...]) -> None:
    if not files:
        raise ManifestError("a model needs at least one file")
    check_paths(entry.path for entry in files)
    # One order only, or the same content could have two ids.
    if any(one.path >= other.path for one, other in pairwise(files)):
        raise ManifestError("files are not sorted by path, or a path is there twice")
    for entry in files:
        _check_file(entry)
    # One hash has one content: two sizes for it would make blocks stand for other blocks.
    facts = {entry.digest: (entry.size_bytes, entry.shards) for entry in files}
    for entry in files:
        if facts[entry.digest] != (entry.size_bytes, entry.shards):
            raise ManifestError(f"the hash of {entry.path!r} stands for another file too")
    # A stranger may declare anything; disks and counters must not suffer for it.
    if sum(entry.size_bytes for entry in files) > MODEL_MAX_BYTES:
        raise ManifestError(f"the model is larger than {MODEL_MAX_BYTES} bytes")


def _check_file(entry: FileEntry) -> None:
    if not 0 <= entry.size_bytes <= MODEL_MAX_BYTES:
        raise ManifestError(f"{entry.path!r} can't have {entry.size_bytes} bytes")
    if len(entry.shards) != -(-entry.size_bytes // SHARD_BYTES):
        raise ManifestError(
            f"{entry.path!r} of {entry.size_bytes} bytes can't have {len(entry.shards)} shards"
        )
    # Where the file's hash follows from the rest, there is one right answer.
    implied = {0: _EMPTY_DIGEST, 1: entry.shards[0] if entry.shards else None}
    if implied.get(len(entry.shards), entry.digest) != entry.digest:
        raise ManifestError(f"the hashes of {entry.path!r} contradict each other")


def manifest_id(data: bytes) -> ManifestId:
    """Return the id of a manifest from its canonical bytes."""
    return ManifestId(blake3(data).digest())


def encode(manifest: Manifest) -> bytes:
    """Return the canonical bytes.

    Raises:
        ManifestError: they would be more than a manifest may have.
    """
    data = canonical.dumps(
        {
            "dreamer": VERSION,
            "files": [_file_json(entry) for entry in manifest.files],
            "outboard": manifest.outboard.hex(),
            "blocks": manifest.block_count,
            "groups": [_group_json(group) for group in manifest.groups],
        }
    )
    if len(data) > MANIFEST_MAX_BYTES:
        raise ManifestError(f"the manifest has {len(data)} bytes, over {MANIFEST_MAX_BYTES}")
    return data


def _file_json(entry: FileEntry) -> canonical.Json:
    return {
        "path": entry.path,
        "size": entry.size_bytes,
        "hash": entry.digest.hex(),
        "shards": [shard.hex() for shard in entry.shards],
    }


def _group_json(group: Group) -> canonical.Json:
    ranges = [[part.file_index, part.offset, part.length] for part in group.ranges]
    return {"name": group.name, "ranges": ranges}


def parse(data: bytes) -> Manifest:
    """Return the manifest that ``data`` encodes; whatever can't be one is refused.

    Raises:
        ManifestError: too long, not canonical, an unknown or missing key, a wrong type, or a rule
            of the format broken.
    """
    # Before parsing, which costs a multiple of the size in memory.
    if len(data) > MANIFEST_MAX_BYTES:
        raise ManifestError(f"the manifest has {len(data)} bytes, over {MANIFEST_MAX_BYTES}")
    try:
        return _read_manifest(canonical.loads(data))
    except ManifestError:
        raise
    except InputError as error:
        raise ManifestError(f"bad manifest: {error}") from error


def _read_manifest(value: canonical.Json) -> Manifest:
    # Before the keys: a later version may have others, and deserves the better message.
    if _count(value.get("dreamer"), "dreamer (the version)") != VERSION:
        raise ManifestError("this manifest's version is not known here: upgrade Dreamer")
    _check_keys(value, ("blocks", "dreamer", "files", "groups", "outboard"), "the manifest")
    return Manifest(
        files=tuple(_read_file(item) for item in _list(value["files"], "files")),
        outboard=_digest(value["outboard"], "outboard"),
        block_count=_count(value["blocks"], "blocks"),
        groups=tuple(_read_group(item) for item in _list(value["groups"], "groups")),
    )


def _read_file(value: object) -> FileEntry:
    entry = _check_keys(value, ("hash", "path", "shards", "size"), "a file")
    return FileEntry(
        path=_text(entry["path"], "path"),
        size_bytes=_count(entry["size"], "size"),
        digest=_digest(entry["hash"], "hash"),
        shards=tuple(_digest(item, "shard") for item in _list(entry["shards"], "shards")),
    )


def _read_group(value: object) -> Group:
    group = _check_keys(value, ("name", "ranges"), "a group")
    ranges = tuple(_read_range(item) for item in _list(group["ranges"], "ranges"))
    return Group(_text(group["name"], "name"), ranges)


def _read_range(value: object) -> Range:
    numbers = [_count(item, "range") for item in _list(value, "range")]
    if len(numbers) != len(("file", "offset", "length")):
        raise ManifestError("a range must be [file index, offset, length]")
    return Range(*numbers)


def _check_keys(value: object, keys: tuple[str, ...], what: str) -> Mapping[str, object]:
    if not isinstance(value, dict) or tuple(sorted(value)) != keys:
        raise ManifestError(f"{what} must have exactly the keys {', '.join(keys)}")
    return value


def _list(value: object, what: str) -> list[object]:
    if not isinstance(value, list):
        raise ManifestError(f"{what} must be a list")
    return value


def _text(value: object, what: str) -> str:
    if not isinstance(value, str):
        raise ManifestError(f"{what} must be a string")
    return value


def _count(value: object, what: str) -> int:
    # True is an int to Python, not to JSON.
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ManifestError(f"{what} must be a number that is whole and not negative")
    return value


def _digest(value: object, what: str) -> Digest:
    return Digest(from_hex(value, what))
