"""The lease by which a push keeps what it relies on from being collected as garbage.

See ``protocol/garbage/lease.py`` for why the two never miss each other.
"""

from __future__ import annotations

import hashlib
import logging
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import closing

from dreamer.daemon.origin.checks import Checks
from dreamer.daemon.origin.faults import (
    OriginBusyError,
    OriginError,
    OriginMissingError,
)
from dreamer.daemon.origin.port import BucketPort
from dreamer.daemon.origin.retry import Retry
from dreamer.daemon.store import stopping
from dreamer.protocol.checksum import Algorithm
from dreamer.protocol.garbage.keys import collection_key, lease_key
from dreamer.protocol.garbage.lease import Lease, parse_mark
from dreamer.protocol.ids import Digest, RoomId
from dreamer.protocol.origin import OriginAddress
from dreamer.protocol.origin_limits import (
    COLLECTION_DEAD_S,
    COLLECTION_POLL_S,
    LEASE_MAX_BYTES,
    LEASE_REFRESH_S,
    LEASE_TTL_S,
)

log = logging.getLogger(__name__)


class PushLease:
    """One push's lease, of the room ``room``; methods block, raise OriginError, StoppedError.

    ``serial`` is that of the room's registry as this node last saw it, the model published.
    """

    def __init__(
        self,
        bucket: BucketPort,
        address: OriginAddress,
        room: RoomId,
        push_id: bytes,
        serial: int,
        *,
        retry: Retry,
        stop: threading.Event,
        checks: Checks | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bucket = bucket
        self._key = lease_key(address, room, push_id)
        self._mark_key = collection_key(address)
        self._serial = serial
        self._retry = retry
        self._checks = checks or Checks()
        self._stop = stop
        self._clock = clock
        self._lock = threading.Lock()
        self._data = b""
        self._written_at = 0.0
        self._refused = False
        self._doubt = False

    def hold(self, digests: Iterable[Digest]) -> None:
        """Name what the push relies on; before it looks what of that is there."""
        self._data = Lease(tuple(digests), self._serial).encode()
        self._write()
        # One that begins from here on sees the lease.
        self._doubt = self._mark() is not None

    def renew(self) -> None:
        """Write it once more if it is not fresh any longer; any thread may call, at any time."""
        with self._lock:
            waited_s = self._clock() - self._written_at
            due = self._data and waited_s >= LEASE_REFRESH_S
            if due:
                # At once, that no second thread does the same.
                self._written_at = self._clock()
                # A machine that slept: a collection may have begun that saw no live lease.
                self._doubt |= waited_s >= LEASE_TTL_S / 2
        if due:
            self._write()

    def settle(self) -> bool:
        """Return whether what the push found may be gone; when nobody removes any more of it.

        From here on, what is at the origin stays there.
        """
        self.renew()
        if not self._doubt:
            return False
        self._write()
        first = self._mark()
        began = self._clock()
        while first is not None and self._mark() == first:
            # Whoever leaves a mark for longer was killed, and removes no more.
            if self._clock() - began >= COLLECTION_DEAD_S:
                log.info("a collection of garbage at %s seems to have been killed", self._mark_key)
                break
            self._stop.wait(COLLECTION_POLL_S)
            stopping.check(self._stop)
        return True

    def _write(self) -> None:
        if self._refused:
            return
        began = self._clock()
        try:
            self._checks.run(self._put, hashlib.md5(self._data, usedforsecurity=False).hexdigest())
        except OriginBusyError:
            raise
        except OriginError as error:
            # A tracker that is older signs none, and collects no garbage either.
            self._refused = True
            log.warning("this push has no lease against the collection of garbage: %s", error)
        with self._lock:
            self._written_at = began

    def _put(self, by: Algorithm | None) -> str:
        return self._retry.run(lambda: self._bucket.put(self._key, self._data, by), self._stop)

    def _mark(self) -> bytes | None:
        """Return the mark of a collection under way; None: there is none."""
        if self._refused:
            return None
        data = self._retry.run(self._read_mark, self._stop)
        return data if data is not None and parse_mark(data).open else None

    def _read_mark(self) -> bytes | None:
        size = self._bucket.size(self._mark_key)
        if size is None:
            return None
        if size > LEASE_MAX_BYTES:
            raise OriginError(f"{self._mark_key} has {size} bytes: not ours, remove it")
        try:
            with closing(self._bucket.get(self._mark_key, 0, size)) as pieces:
                return b"".join(pieces)
        except OriginMissingError:
            return None
