"""What a bucket says of itself: its keys, uploads under way, parts, rules of expiry."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Listed:
    """A key of a bucket; ``modified_at`` in seconds since the epoch, by the store's clock."""

    key: str
    size_bytes: int
    modified_at: float


@dataclass(frozen=True)
class ListedUpload:
    """A multipart upload under way; ``began_at`` in seconds since the epoch."""

    key: str
    upload: str
    began_at: float


@dataclass(frozen=True)
class ListedPart:
    """A part that an upload under way has; ``etag`` as the store gave it, in quotes or not."""

    number: int
    size_bytes: int
    etag: str

    def holds(self, size_bytes: int, md5_hex: str) -> bool:
        """Say whether it surely is the data of this size and MD5.

        The ETag of a part is its MD5, except where the store encrypts with a key of its own (AWS
        SSE-KMS and SSE-C: "not an MD5 digest of the object data"); such a part is sent again.
        """
        return self.size_bytes == size_bytes and self.etag.strip('"').lower() == md5_hex


@dataclass(frozen=True)
class ExpiryRule:
    """A lifecycle rule of ours: keys below ``prefix`` go ``days`` after they were written.

    ``uploads_too`` ends uploads that nobody completed by then.
    """

    name: str
    prefix: str
    days: int
    uploads_too: bool = True
