"""The one key of an origin that is rewritten: read cheaply, written only on a condition.

Everything else at an origin is named by its hash and never changes. A room's registry does, and
many nodes write it: each says which version it has seen, and the store refuses the others
(If-Match, If-None-Match: RFC 9110, 13.1; 412, or 409 while two write at the same moment).
A store that ignores this would let one node's change erase another's, so it is put to the proof
before a room relies on it. Methods block, and may be called from several threads.
"""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable
from contextlib import suppress

from dreamer.daemon.origin.faults import (
    OriginBusyError,
    OriginConflictError,
    OriginError,
    OriginMissingError,
    OriginNoBucketError,
    OriginUnchangedError,
    OriginUnsupportedError,
)
from dreamer.daemon.origin.port import BucketPort
from dreamer.daemon.origin.retry import Retry

Stored = tuple[bytes, str]
"""A document and its ETag."""


class OriginUnconditionalError(OriginError):
    """The store writes whatever the condition: no document that many nodes write can be there."""


class OriginDocument:
    """One document at an origin. ``bucket`` returns how it is reached; all raise OriginError."""

    def __init__(self, bucket: Callable[[], BucketPort], key: str, retry: Retry) -> None:
        self._bucket = bucket
        self._key = key
        self._retry = retry
        self._lock = threading.Lock()
        self._known: Stored | None = None

    def read(self, stop: threading.Event) -> Stored | None:
        """Return the document, None if there is none yet; unchanged, it is not fetched again.

        Raises:
            OriginNoBucketError: the bucket is gone: what was in it is not "none yet".
            StoppedError: ``stop`` was set.
        """
        return self._retry.run(self._read, stop)

    def write(self, data: bytes, etag: str | None, stop: threading.Event) -> str:
        """Write it if it still has ``etag`` (None: if there is none); return its new ETag.

        Raises:
            OriginConflictError: somebody else has written it; nothing was changed.
            OriginBusyError: the origin can't be reached: whether it was written, the next reading
                shows.
            StoppedError: ``stop`` was set.
        """
        unsure = False

        def once() -> str:
            nonlocal unsure
            try:
                written = self._bucket().replace(self._key, data, etag)
            except OriginBusyError:
                # Its answer may have been lost after it did what was asked.
                unsure = True
                raise
            except OriginMissingError as error:
                if etag is None or isinstance(error, OriginNoBucketError):
                    raise
                # What was to be replaced is gone, which S3 calls 404 and not 412.
                raise OriginConflictError(str(error)) from error
            except OriginUnchangedError as error:
                # So said MinIO of a key that is there, before there was 412 (its issue 19442).
                raise OriginConflictError(str(error)) from error
            except OriginConflictError:
                ours = self._read() if unsure else None
                if ours is None or ours[0] != data:
                    raise
                written = ours[1]
            self._know((data, written))
            return written

        return self._retry.run(once, stop)

    def prove(self, stop: threading.Event) -> None:
        """Make sure that the store honours conditions, with a key of our own that is removed again.

        Raises:
            OriginUnconditionalError: it doesn't.
            StoppedError: ``stop`` was set.
        """
        # Beside the document, so that whatever rights its place has are those that are tried.
        key = f"{self._key.rpartition('/')[0]}/probe-{secrets.token_hex(8)}"
        try:
            etag = self._retry.run(lambda: self._bucket().replace(key, b"{}", None), stop)
            self._must_refuse(key, None, stop)
            self._must_refuse(key, _other(etag), stop)
            # Nor may it refuse everything: that would be found out by the first who publishes.
            self._retry.run(lambda: self._bucket().replace(key, b'{"n":2}', etag), stop)
        except OriginUnsupportedError as error:
            raise OriginUnconditionalError(str(error)) from error
        finally:
            with suppress(OriginError):
                self._bucket().delete_all([key])

    def _must_refuse(self, key: str, etag: str | None, stop: threading.Event) -> None:
        with suppress(OriginConflictError, OriginUnchangedError):
            self._retry.run(lambda: self._bucket().replace(key, b'{"n":1}', etag), stop)
            header = "If-None-Match: *" if etag is None else "If-Match with another ETag"
            raise OriginUnconditionalError(f"a write with {header} went through")

    def _read(self) -> Stored | None:
        with self._lock:
            known = self._known
        try:
            found = self._bucket().read_whole(self._key, known[1] if known else None)
        except OriginUnchangedError:
            return known
        except OriginMissingError as error:
            if isinstance(error, OriginNoBucketError):
                raise
            found = None
        self._know(found)
        return found

    def _know(self, stored: Stored | None) -> None:
        with self._lock:
            self._known = stored


def _other(etag: str) -> str:
    """Return an ETag like this one that is not it."""
    # Of the same form, or a store might refuse it for its form: one hex digit is another.
    changed = "1" if etag.strip('"')[:1] == "0" else "0"
    quote = '"' if etag.startswith('"') else ""
    return f"{quote}{changed}{etag.strip(chr(34))[1:]}{quote}"
