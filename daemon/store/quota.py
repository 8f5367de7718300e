"""How much a store may take, and how much it takes: of its quota, and of the disk's free room.

Room is reserved by really taking it: the files of a pull or a push are allocated in full before the
first byte comes, so what all daemons of a store have under way shows on the disk and is counted. Of
what a file system can't allocate ahead, the file's size is counted instead.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from dreamer.daemon.store import fresh, space
from dreamer.daemon.store.places import Places
from dreamer.protocol.cache_limits import STORE_EXTENTS_BYTES, STORE_GRACE_S, STORE_PAGE_BYTES
from dreamer.protocol.limits import STORE_RESERVE_BYTES


@dataclass(frozen=True)
class StoreLimits:
    """What a store may take: ``quota_bytes`` in all (0: no bound), leaving ``min_free_bytes``.

    What was used within ``grace_s`` is not evicted.
    """

    quota_bytes: int = 0
    min_free_bytes: int = 0
    grace_s: float = STORE_GRACE_S


@dataclass(frozen=True)
class Need:
    """What work under way will take more than it does now, as the disk and as the quota count it.

    They differ where something is allocated already, or shares its bytes with another file.
    ``promised_bytes`` of it are the size of its own files already, where none could be allocated.
    """

    disk_bytes: int
    quota_bytes: int
    promised_bytes: int = 0


Admission = Callable[[], AbstractContextManager[Callable[[Need], None]]]
"""Enters what only one process at a time may do, and gives the way to ask there for room."""


def room_for(size_bytes: int) -> int:
    """Return the most that a file of this size takes on the disk.

    Its last page counts in full, and so do the lists of extents, of which ext4 and XFS write a page
    for some hundreds: a block each at worst, as blocks arrive in any order.
    """
    pages = -(-size_bytes // STORE_PAGE_BYTES)
    lists = size_bytes // STORE_EXTENTS_BYTES + 1 if size_bytes else 0
    return (pages + lists) * STORE_PAGE_BYTES


class Quota:
    """The bounds of one store. Methods raise OSError as the disk does."""

    def __init__(self, places: Places, limits: StoreLimits) -> None:
        self._places = places
        self.limits = limits

    @property
    def bounded(self) -> bool:
        """Whether there is a quota."""
        return self.limits.quota_bytes > 0

    @property
    def asked(self) -> bool:
        """Whether this store is a cache, which gives up old models for new ones by itself."""
        return self.bounded or self.limits.min_free_bytes > 0

    def used_bytes(self) -> int:
        """Return what the store takes: content, what is under way, models as users see them.

        A file counts once, however many links it has; the few KiB of locks and pins don't count.
        """
        places = self._places
        seen: set[tuple[int, int]] = set()
        # In the order in which files move from one to the other, or one could slip through.
        under_way = (places.partial, places.staging)
        settled = (places.files, places.objects, places.quarantine, *places.model_directories())
        return sum(map(growing, walk(under_way, seen))) + sum(map(taken, walk(settled, seen)))

    def lacking(self, need: Need) -> int:
        """Return how many bytes must go before it can be taken; 0: none."""
        lacking = 0
        if need.disk_bytes:
            wanted = need.disk_bytes - need.promised_bytes + self._promised_bytes()
            lacking = wanted + self._kept_free() - space.free_bytes(self._places.root)
        # A walk through the store, which nobody without a quota should wait for.
        if self.bounded and need.quota_bytes:
            over = self.used_bytes() + need.quota_bytes - self.limits.quota_bytes
            lacking = max(lacking, over)
        return max(0, lacking)

    def _promised_bytes(self) -> int:
        """Return what files under way are still to take, where they could not be allocated."""
        under_way = walk((self._places.partial, self._places.staging), set())
        return sum(map(promised, under_way))

    def hopeless(self, need: Need) -> bool:
        """Return whether so much can never fit, however much goes."""
        total = space.total_bytes(self._places.root)
        over = self.bounded and need.quota_bytes > self.limits.quota_bytes
        return over or need.disk_bytes + self._kept_free() > total

    def _kept_free(self) -> int:
        # The reserve keeps the database and the logs of a full node working.
        return max(self.limits.min_free_bytes, STORE_RESERVE_BYTES)

    def figures(self, need: Need) -> str:
        """Return in words what is needed and what there is."""
        root, readable = self._places.root, space.readable
        needed, free = max(need.disk_bytes, need.quota_bytes), space.free_bytes(root)
        said = (
            f"{readable(needed)} are needed and {readable(free)} are free "
            f"on the disk of {root} ({readable(self._kept_free())} of it stay in reserve)"
        )
        if self.bounded:
            quota = readable(self.limits.quota_bytes)
            said += f"; of the quota of {quota}, {readable(self.used_bytes())} are used"
        return said


def walk(places: Iterable[Path], seen: set[tuple[int, int]]) -> Iterator[os.stat_result]:
    """Yield the files below some directories that were not ``seen``, links not followed."""
    for place in places:
        fresh.look(place)
        # os.walk passes over what another thread or daemon removes meanwhile.
        for directory, inner, names in os.walk(place):
            # Before it goes into them: another host may have put something there just now.
            fresh.look(*(Path(directory, name) for name in inner))
            for name in names:
                try:
                    status = fresh.lstat(Path(directory, name))
                except FileNotFoundError:
                    continue
                if stat.S_ISREG(status.st_mode) and (status.st_dev, status.st_ino) not in seen:
                    seen.add((status.st_dev, status.st_ino))
                    yield status


def taken(status: os.stat_result) -> int:
    """Return what a settled file counts for."""
    return space.allocated_bytes(status)


def growing(status: os.stat_result) -> int:
    """Return what a file under way counts for: as much as it may come to take."""
    return max(space.allocated_bytes(status), room_for(status.st_size))


def promised(status: os.stat_result | None) -> int:
    """Return how much less a file takes than its size; nothing if it is not there."""
    return max(0, status.st_size - space.allocated_bytes(status)) if status is not None else 0


def allocated_bytes(status: os.stat_result | None) -> int:
    """Return what a file takes on the disk; nothing if it is not there."""
    return space.allocated_bytes(status) if status is not None else 0


def counted(status: os.stat_result | None) -> int:
    """Return what a file under way counts for; nothing if it is not there."""
    return growing(status) if status is not None else 0
