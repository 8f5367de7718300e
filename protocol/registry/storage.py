"""Which files a model has, as its entry lists them: the largest, and how many there are besides."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from dreamer.protocol.canonical import Json
from dreamer.protocol.content.paths import check_path
from dreamer.protocol.errors import InputError
from dreamer.protocol.registry.reading import Reader, check_count
from dreamer.protocol.registry_limits import STORAGE_LISTED_MAX_FILES


@dataclass(frozen=True)
class Storage:
    """Paths and sizes in bytes, by path; ``left_out`` more files are in ``total_bytes`` only.

    For people: a pull goes by the manifest, which has every file and its hash.
    """

    files: tuple[tuple[str, int], ...]
    total_bytes: int
    left_out: int = 0
    extra: Json = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        if len(self.files) > STORAGE_LISTED_MAX_FILES:
            raise InputError(f"an entry lists {STORAGE_LISTED_MAX_FILES} files at most")
        for path, size_bytes in self.files:
            check_path(path)
            check_count(size_bytes, "the size of a file")
        check_count(self.total_bytes, "the size of a model")
        check_count(self.left_out, "the number of files left out")

    @classmethod
    def of(cls, files: Iterable[tuple[str, int]]) -> Storage:
        """Return the storage of a model with these files (path, size in bytes)."""
        every = list(files)
        largest = sorted(every, key=lambda item: (-item[1], item[0]))[:STORAGE_LISTED_MAX_FILES]
        total_bytes = sum(size_bytes for _, size_bytes in every)
        return cls(tuple(sorted(largest)), total_bytes, len(every) - len(largest))

    def fields(self) -> Json:
        """Return the JSON fields."""
        files = [[path, size_bytes] for path, size_bytes in self.files]
        counts = {"total_bytes": self.total_bytes, "left_out": self.left_out}
        return {**self.extra, "files": files, **counts}


def read_storage(value: object) -> Storage:
    """Read the fields of a storage.

    Raises:
        InputError: a part is missing, of a wrong type, or no path that a manifest may name.
    """
    fields = Reader(value, "a model's storage")
    files = tuple(_read_file(item) for item in fields.items("files"))
    counts = fields.integer("total_bytes"), fields.integer("left_out")
    return Storage(files, *counts, extra=fields.rest())


def _read_file(item: object) -> tuple[str, int]:
    match item:
        case [str(path), int(size_bytes)]:
            return path, size_bytes
        case _:
            raise InputError(f"a file of a model's storage is a path and a size, not {item!r:.80}")
