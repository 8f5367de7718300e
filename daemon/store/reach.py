"""Whether the locks of a shared volume reach the hosts that share it: told by their deeds.

On a volume that other hosts may use, each process writes into its own lock file again and again as
long as it lives, and looks at those of the others. One that goes on writing into a file whose lock
nobody holds, as far as this host can tell, lives where this host's locks don't reach. No clock is
compared, and nothing but the volume is needed. What a process wrote before it died may be seen
late, once; so it counts only when it has been seen to write twice.

A host that a server heard nothing of for a while (its machine was paused, or a cable was out) has
lost its locks and lives on. So each locks its own file anew before it writes into it.
"""

from __future__ import annotations

import logging
import threading
from dataclasses import dataclass
from pathlib import Path

from dreamer.daemon.store import fresh, locks
from dreamer.daemon.store.locks import FileLock
from dreamer.daemon.store.mounts import mount_of
from dreamer.daemon.store.places import STAGING_LOCK_SUFFIX, Places
from dreamer.protocol.cache_limits import STORE_WRITES_SEEN_UNLOCKED
from dreamer.protocol.errors import LocalError

log = logging.getLogger(__name__)

_WHAT_TO_DO = (
    "mount it so that locks reach all hosts (as NFS 4 does; docs/store.md names more), or "
    "give each host a MODELS_DIR of its own, then start dreamerd again"
)


@dataclass(frozen=True)
class _Unlocked:
    said: bytes
    writes: int


class Reach:
    """Watches the other processes of a volume; ``own`` is the lock that this one holds."""

    def __init__(self, places: Places, own: FileLock) -> None:
        self._places = places
        self._own = own
        self._mount = mount_of(places.root)
        self._unlocked: dict[Path, _Unlocked] = {}
        self._count = 0
        # Of our own lock, and of what another process does.
        self._lost = ""
        self._unseen = ""
        self._accused: Path | None = None
        # A look may last as long as the volume does not answer, and the lock ends at our close.
        self._looking = threading.Lock()
        self._closed = False
        if why := self._mount.locks_stay_here:
            log.warning(
                "%s: %s. One daemon may use it, several hosts must not: %s",
                *(places.root, why, _WHAT_TO_DO),
            )

    @property
    def problem(self) -> str:
        """What is found, and what to do; empty: nothing."""
        return self._lost or self._unseen

    def require(self) -> None:
        """Refuse to change a volume that another host changes unseen.

        Raises:
            LocalError: one was seen to, or this process could not lock its own file any more.
        """
        if problem := self.problem:
            raise LocalError(problem)

    def close(self) -> None:
        """Look no more: from here on the lock is not touched."""
        with self._looking:
            self._closed = True

    def look(self) -> None:
        """Show that this process lives, and look at the others; raises OSError and LocalError."""
        with self._looking:
            if self._mount.is_shared and not self._closed:
                self._show()
                self._watch()

    def _show(self) -> None:
        """Write into the own file, but never without its lock: that would accuse this host."""
        before = self._lost
        self._lost = (
            f"{self._places.root} does not let this process lock {self._own.path.name} any more: "
            "see whether the volume's server is in reach; it is tried again every few seconds"
        )
        # Stays said where this raises.
        if self._own.renew():
            self._lost = ""
            self._count += 1
            self._own.sign(str(self._count))
            # Whoever starts takes away what lies beside a lock that nobody holds.
            self._places.own_staging.mkdir(exist_ok=True)
        elif not before:
            log.error("%s", self._lost)

    def _watch(self) -> None:
        fresh.look(self._places.staging)
        others = set(self._places.staging.glob(f"*{STAGING_LOCK_SUFFIX}")) - {self._own.path}
        self._unlocked = {
            path: seen for path in sorted(others) if (seen := self._seen(path)) is not None
        }
        if self._accused not in self._unlocked:
            # Its lock is seen by now, or it has ended.
            self._accused, self._unseen = None, ""
        for path, seen in self._unlocked.items():
            if seen.writes >= STORE_WRITES_SEEN_UNLOCKED and self._accused is None:
                self._accused = path
                self._unseen = (
                    f"{locks.holder(path)} uses {self._places.root} too, and neither sees the "
                    f"other's locks: {_WHAT_TO_DO}"
                )
                log.error("%s", self._unseen)

    def _seen(self, path: Path) -> _Unlocked | None:
        if locks.is_held(path):
            return None
        said, before = locks.note(path), self._unlocked.get(path)
        if not said:
            # Not to be read now: no sign of anything.
            return before
        changed = before is not None and said != before.said
        return _Unlocked(said, (before.writes if before else 0) + changed)
