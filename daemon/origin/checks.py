"""How damage on the way to a bucket is found: by what its store checks, and by what it answers.

Two things are found out once for each bucket. Which checksum its store takes: the next one is
tried when one is refused. And whether its ETags are MD5s, as those of AWS (but with KMS), R2,
MinIO, Ceph, moto, rclone and s3rver are: then what a store that checks nothing has taken damaged is
seen, too.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from dreamer.daemon.origin.faults import OriginDamagedError, OriginUnsupportedError
from dreamer.protocol.checksum import Algorithm

log = logging.getLogger(__name__)

_ORDER = (Algorithm.MD5, Algorithm.CRC32, None)


class Checks:
    """The checksum that goes with everything sent to one bucket. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._place = 0
        self._taken = False
        # None: not known yet.
        self._etags_are_md5: bool | None = None

    @property
    def by(self) -> Algorithm | None:
        """What to send; None when the store takes none of those we know."""
        return _ORDER[self._place]

    def refused(self, by: Algorithm | None) -> bool:
        """Note that a checksum may have been refused; return whether to try with another.

        A store that has taken one before refuses something else.
        """
        with self._lock:
            # Of the threads that sent it at the same time, only the first changes anything.
            if by is not self.by:
                return True
            if by is None or self._taken:
                return False
            self._place += 1
        log.info("the origin takes no %s; from now on it is sent %s", by, self.by or "none")
        return True

    def run(self, send: Callable[[Algorithm | None], str], md5: str) -> str:
        """Have something sent, with a checksum that is not refused; return its ETag.

        ``send`` returns the store's ETag; ``md5`` is that of the data, in hex digits.

        Raises:
            OriginUnsupportedError: the store refuses something else.
            OriginDamagedError: as ``sent``.
        """
        while True:
            by = self.by
            try:
                return self.sent(lambda: send(by), md5)  # noqa: B023
            except OriginUnsupportedError:
                if not self.refused(by):
                    raise

    def sent(self, send: Callable[[], str], md5: str) -> str:
        """Have something sent, again if it was damaged; return its ETag.

        Raises:
            OriginDamagedError: the store has something else, twice; its ETags are MD5s.
        """
        etag = send()
        self._taken = True
        if self._fits(etag, md5):
            return etag
        # Damaged, or no MD5 at all: a second time tells, once for each bucket.
        etag = send()
        if self._fits(etag, md5):
            return etag
        if self._etags_are_md5:
            raise OriginDamagedError(f"what the store has is not what was sent ({etag}), twice")
        self._etags_are_md5 = False
        return etag

    def _fits(self, etag: str, md5: str) -> bool:
        if etag.strip('"').lower() == md5:
            self._etags_are_md5 = True
            return True
        return self._etags_are_md5 is False
