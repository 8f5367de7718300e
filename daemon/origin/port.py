"""What an origin needs of its bucket, however it is reached."""

from __future__ import annotations

from collections.abc import Generator, Iterable, Iterator, Sequence
from typing import Protocol

from dreamer.daemon.origin.listing import ExpiryRule, Listed, ListedPart, ListedUpload
from dreamer.protocol.checksum import Algorithm, Checksum


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

    def put(self, key: str, data: bytes, by: Algorithm | None = Algorithm.MD5) -> str:
        """Write a small key; the origin checks that the bytes arrived unharmed, ``by`` what.

        Returns its ETag, empty if the store gives none.

        Raises:
            OriginUnsupportedError: it knows no such checksum, among others.
            OriginDamagedError: they did not; nothing was kept.
        """
        ...

    def read_whole(self, key: str, etag: str | None) -> tuple[bytes, str]:
        """Return a small key and its ETag; raises OriginUnchangedError if it still has ``etag``."""
        ...

    def replace(self, key: str, data: bytes, etag: str | None) -> str:
        """Write a small key that has ``etag``, or is not there (None); return its new ETag.

        Raises OriginConflictError if it has another.
        """
        ...

    def copy(self, key: str, target: str) -> None:
        """Copy a key inside the store."""
        ...

    def begin(self, key: str, by: Algorithm | None = Algorithm.MD5) -> str:
        """Begin a multipart upload whose parts will be checked ``by`` this; return its id."""
        ...

    def put_part(
        self,
        key: str,
        upload: str,
        number: int,
        data: bytes,
        by: Algorithm | None = Algorithm.MD5,
    ) -> str:
        """Write one part, numbered from 1, checked as of ``put``; return its ETag."""
        ...

    def complete(
        self, key: str, upload: str, etags: Sequence[str], whole: Checksum | None = None
    ) -> str:
        """Make a key of the parts, in order; return its ETag, empty if the store gives none.

        ``whole`` is the checksum of all of it, for an upload that was begun with CRC-32.

        Raises:
            OriginMissingError: there is no such upload (any more).
            OriginConflictError: it lacks a part, or the store wants it begun again.
        """
        ...

    def abort(self, key: str, upload: str) -> None:
        """Drop a multipart upload and its parts."""
        ...

    def uploads(self, key: str) -> list[str]:
        """Return the ids of a key's multipart uploads under way, those of the last begun first.

        Raises:
            OriginUnsupportedError: the store lists none.
        """
        ...

    def parts(self, key: str, upload: str) -> list[ListedPart]:
        """Return the parts that an upload under way has, by number.

        Raises:
            OriginMissingError: there is no such upload (any more).
            OriginUnsupportedError: the store lists none.
        """
        ...

    def listed(self, prefix: str) -> Iterator[Listed]:
        """Yield the keys that begin with ``prefix``, in their order, a page at a time.

        Raises:
            OriginRefusedError: among others, when this node has no credentials of its own.
        """
        ...

    def open_uploads(self, prefix: str) -> Iterator[ListedUpload]:
        """Yield the multipart uploads under way whose keys begin with ``prefix``.

        Raises:
            OriginUnsupportedError: the store lists none.
            OriginRefusedError: as of ``listed``.
        """
        ...

    def delete_all(self, keys: Iterable[str]) -> None:
        """Remove keys; one that is not there is no error. Refused as ``listed`` is."""
        ...

    def expiry_rules(self) -> tuple[ExpiryRule, ...]:
        """Return the lifecycle rules of ours that the bucket has.

        Raises:
            OriginUnsupportedError: the store has no lifecycle rules: sweep instead.
            OriginRefusedError: as of ``listed``.
        """
        ...

    def put_expiry_rule(self, rule: ExpiryRule) -> None:
        """Add a lifecycle rule, or change ours of that name; those of others stay."""
        ...

    def drop_expiry_rule(self, name: str) -> None:
        """Remove a lifecycle rule of ours; nothing happens if there is none."""
        ...

    def get(self, key: str, offset: int, length: int) -> Generator[bytes, None, None]:
        """Yield exactly ``length`` bytes of a key in pieces, or raise in their midst."""
        ...

    def close(self) -> None:
        """Close the connections; they are made anew if needed."""
        ...
