"""Whether the locks of a shared volume reach the hosts that share it: told by their deeds.

On a volume that other hosts may use, each process writes into its own lock file again and again as
long as it lives, and looks at those of the others. One that goes on writing into a file whose lock
nobody holds, as far as this host can tell, lives where this host's locks don't reach. No clock is
compared, and nothing but the volume is needed. What a process wrote before it died may be seen
late, once; so it counts only when it has been seen to write twice.
"""

from __future__ import annotations

import logging
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
        self._problem = ""
        if why := self._mount.locks_stay_here:
            log.warning(
                "%s: %s. One daemon may use it, several hosts must not: %s",
                *(places.root, why, _WHAT_TO_DO),
            )

    @property
    def problem(self) -> str:
        """What was found, and what to do; empty: nothing so far."""
        return self._problem

    def require(self) -> None:
        """Refuse to change a volume that another host changes unseen.

        Raises:
            LocalError: one was seen to.
        """
        if self._problem:
            raise LocalError(self._problem)

    def look(self) -> None:
        """Show that this process lives, and look at the others; raises OSError."""
        if not self._mount.is_shared:
            return
        self._count += 1
        self._own.sign(str(self._count))
        fresh.look(self._places.staging)
        others = set(self._places.staging.glob(f"*{STAGING_LOCK_SUFFIX}")) - {self._own.path}
        self._unlocked = {
            path: seen for path in sorted(others) if (seen := self._seen(path)) is not None
        }
        for path, seen in self._unlocked.items():
            if seen.writes >= STORE_WRITES_SEEN_UNLOCKED and not self._problem:
                self._problem = (
                    f"{locks.holder(path)} uses {self._places.root} too, and neither sees the "
                    f"other's locks: {_WHAT_TO_DO}"
                )
                log.error("%s", self._problem)

    def _seen(self, path: Path) -> _Unlocked | None:
        if locks.is_held(path):
            return None
        said, before = locks.note(path), self._unlocked.get(path)
        if not said:
            return None
        changed = before is not None and said != before.said
        return _Unlocked(said, (before.writes if before else 0) + changed)
