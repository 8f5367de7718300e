"""Which models are in use: an eviction by any daemon that shares the store leaves those alone.

A use is a lock that many may hold, on a file of the model's; removing a model takes it exclusively.
Holding one is told by a clock besides (``touch``): blocks are given to peers one by one, and a lock
for each would cost more than the block's look-up.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from dreamer.daemon.store import fresh, locks
from dreamer.daemon.store.locks import FileLock
from dreamer.daemon.store.places import Places
from dreamer.protocol.cache_limits import STORE_USE_HOLD_S
from dreamer.protocol.ids import ManifestId


@dataclass
class _Use:
    lock: FileLock | None
    """None: the model is being removed at this moment, by whoever asked first."""
    until: float = 0.0
    """Monotonic: in use until then, though nobody holds it."""
    holders: int = 0

    def end(self) -> None:
        if self.lock is not None:
            self.lock.close()
            self.lock = None


class Uses:
    """The models that this process uses, and what can be seen of the others."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._lock = threading.Lock()
        self._uses: dict[ManifestId, _Use] = {}

    def close(self) -> None:
        """Use nothing any more."""
        with self._lock:
            for use in self._uses.values():
                use.end()
            self._uses.clear()

    def touch(self, manifest_id: ManifestId) -> bool:
        """Say that a model is used at this moment; False if it is just being removed.

        Raises OSError, the first time, as the disk does.
        """
        until = time.monotonic() + STORE_USE_HOLD_S
        with self._lock:
            use = self._uses.get(manifest_id)
            if use is None or use.lock is None:
                use = self._begin(manifest_id)
            if use.lock is None:
                return False
            use.until = max(use.until, until)
            return True

    def keep(self, manifest_id: ManifestId) -> None:
        """Use a model until ``let_go`` is called as often.

        What is being removed at this moment goes; what comes in its place is kept.
        """
        with self._lock:
            use = self._uses.get(manifest_id) or self._begin(manifest_id)
            use.holders += 1

    def let_go(self, manifest_id: ManifestId) -> None:
        """End a use that ``keep`` began."""
        with self._lock:
            use = self._uses.get(manifest_id)
            if use is not None and use.holders:
                use.holders -= 1
                self._end_if_over(manifest_id, use, time.monotonic())

    @contextmanager
    def kept(self, manifest_id: ManifestId) -> Iterator[None]:
        """Use a model for a while."""
        self.keep(manifest_id)
        try:
            yield
        finally:
            self.let_go(manifest_id)

    def refresh(self) -> None:
        """Let go of what was used a while ago, so that other daemons may evict it.

        And lock what was being removed when it was to be kept. Raises OSError.
        """
        now = time.monotonic()
        with self._lock:
            for manifest_id, use in list(self._uses.items()):
                self._end_if_over(manifest_id, use, now)
                if use.holders and use.lock is None:
                    self._begin(manifest_id)

    def _begin(self, manifest_id: ManifestId) -> _Use:
        lock = FileLock.take(self._places.use_lock(manifest_id), exclusive=False)
        use = self._uses.setdefault(manifest_id, _Use(None))
        use.lock = lock
        return use

    def _end_if_over(self, manifest_id: ManifestId, use: _Use, now: float) -> None:
        if not use.holders and use.until <= now:
            del self._uses[manifest_id]
            use.end()

    def is_here(self, manifest_id: ManifestId) -> bool:
        """Return whether this process uses a model."""
        with self._lock:
            use = self._uses.get(manifest_id)
            return use is not None and (use.holders > 0 or use.until > time.monotonic())

    def is_elsewhere(self, manifest_id: ManifestId) -> bool:
        """Return whether another process uses a model, or downloads it."""
        with self._lock:
            # Our own lock would answer for the others'.
            if manifest_id in self._uses:
                return False
        places = self._places
        return locks.is_held(places.use_lock(manifest_id)) or locks.is_held(
            places.pull_lock(manifest_id)
        )

    def alone(self, manifest_id: ManifestId, *, though_touched: bool = False) -> FileLock | None:
        """Return the exclusive lock of a model, for its removal; None if anybody uses it.

        ``though_touched``: that this process has just used it does not count, as its user said so.
        """
        with self._lock:
            use = self._uses.get(manifest_id)
            if use is not None:
                if use.holders or (use.until > time.monotonic() and not though_touched):
                    return None
                del self._uses[manifest_id]
                use.end()
            return FileLock.take(self._places.use_lock(manifest_id), exclusive=True)

    # When a model was used last

    def note(self, manifest_id: ManifestId, at: float | None = None) -> None:
        """Record that a model was used (epoch seconds, by default now). Raises OSError."""
        path = self._places.used / manifest_id.hex()
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        fd = os.open(path, flags, 0o600)
        try:
            os.utime(fd, None if at is None else (at, at))
        finally:
            os.close(fd)

    def last(self, manifest_id: ManifestId) -> float:
        """Return when a model was used last by any daemon here; if never, when it came."""
        digest_path = self._places.objects / manifest_id.hex()
        for path in (self._places.used / manifest_id.hex(), digest_path):
            try:
                return fresh.lstat(path).st_mtime
            except FileNotFoundError:
                continue
        return 0.0

    def forget(self, manifest_id: ManifestId) -> None:
        """Remove the record of a model that is gone."""
        (self._places.used / manifest_id.hex()).unlink(missing_ok=True)
