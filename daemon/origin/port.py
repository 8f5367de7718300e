"""What an origin needs of its bucket, however it is reached."""

from __future__ import annotations

from collections.abc import Generator
from typing import Protocol


class BucketPort(Protocol):
    """One try a call; methods block, may be called from several threads, and raise OriginError."""

    def check(self) -> None:
        """Ask whether the bucket is there and open to us."""
        ...

    def known_size(self, key: str) -> int:
        """Return the size of a key in bytes; raises OriginMissingError if it isn't there."""
        ...

    def size(self, key: str) -> int | None:
        """Return the size of a key in bytes, None if it isn't there."""
        ...

    def put(self, key: str, data: bytes) -> None:
        """Write a small key; the origin checks that the bytes arrived unharmed."""
        ...

    def copy(self, key: str, target: str) -> None:
        """Copy a key inside the store."""
        ...

    def begin(self, key: str) -> str:
        """Begin a multipart upload; return its id."""
        ...

    def put_part(self, key: str, upload: str, number: int, data: bytes) -> str:
        """Write one part, numbered from 1; return its ETag."""
        ...

    def complete(self, key: str, upload: str, etags: list[str]) -> None:
        """Make a key of the parts, in order."""
        ...

    def abort(self, key: str, upload: str) -> None:
        """Drop a multipart upload and its parts."""
        ...

    def get(self, key: str, offset: int, length: int) -> Generator[bytes, None, None]:
        """Yield exactly ``length`` bytes of a key in pieces, or raise in their midst."""
        ...

    def close(self) -> None:
        """Close the connections; they are made anew if needed."""
        ...
