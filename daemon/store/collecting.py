"""What lies in a store and nobody needs: found first, removed only on demand.

Leftovers are old partial downloads, quarantined files, work of processes that are gone, and files
and objects that no manifest names. All of it is kept for some days, for who comes back to it; what
a daemon has just put there can't be old.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from dreamer.daemon.store import space
from dreamer.daemon.store.claims import Claims
from dreamer.daemon.store.locks import FileLock
from dreamer.daemon.store.objects import Objects
from dreamer.daemon.store.places import Places
from dreamer.daemon.store.quota import walk
from dreamer.daemon.store.staging import abandoned
from dreamer.daemon.store.uses import Uses
from dreamer.protocol.errors import InputError
from dreamer.protocol.ids import Digest, ManifestId, from_hex

Kind = Literal["partial", "quarantine", "staging", "file", "object"]


@dataclass(frozen=True)
class Leftover:
    """One thing that nobody needs; ``name`` is the model's or file's hash, or a path's name."""

    kind: Kind
    name: str
    size_bytes: int


@dataclass(frozen=True)
class Leftovers:
    """What was found, and whether it was removed."""

    found: tuple[Leftover, ...]
    removed: bool

    @property
    def size_bytes(self) -> int:
        """What it takes in all."""
        return sum(one.size_bytes for one in self.found)


class Collector:
    """Finds what nobody needs; whoever calls holds the lock for changes. Raises OSError."""

    def __init__(self, places: Places, objects: Objects, claims: Claims, uses: Uses) -> None:
        self._places = places
        self._objects = objects
        self._claims = claims
        self._uses = uses

    def collect(self, keep: Collection[Digest], older_than_s: float, remove: bool) -> Leftovers:
        """Find leftovers; ``keep`` are objects that something else than a manifest names."""
        before = time.time() - older_than_s
        found = [
            *self._partial(before, remove),
            *self._old("quarantine", sorted(self._places.quarantine.iterdir()), before, remove),
            *self._old("staging", abandoned(self._places), float("inf"), remove),
            *self._unnamed(keep, before, remove),
        ]
        if remove:
            self._forget_gone()
        return Leftovers(tuple(found), remove)

    def _partial(self, before: float, remove: bool) -> Iterator[Leftover]:
        for place in sorted(self._places.partial.iterdir()):
            try:
                manifest_id = ManifestId(from_hex(place.name, "a partial download's name"))
            except InputError:
                # Nothing of ours; who put it there may know why.
                continue
            # Claimed while it is looked at: a pull may begin at this very moment.
            with self._claims.tried(manifest_id) as is_ours:
                if is_ours:
                    yield from self._old("partial", [place], before, remove)

    def _unnamed(self, keep: Collection[Digest], before: float, remove: bool) -> Iterator[Leftover]:
        manifests = self._objects.manifests(settled=True)
        files = {entry.digest.hex() for each in manifests.values() for entry in each.files}
        named = {each.outboard.hex() for each in manifests.values()}
        named |= {digest.hex() for digest in (*manifests, *keep)}
        for kind, place, used in (
            ("file", self._places.files, files),
            ("object", self._places.objects, named),
        ):
            unused = [path for path in sorted(place.iterdir()) if path.name not in used]
            yield from self._old("file" if kind == "file" else "object", unused, before, remove)

    def _old(
        self, kind: Kind, paths: Iterable[Path], before: float, remove: bool
    ) -> Iterator[Leftover]:
        for path in paths:
            if _changed(path) <= before:
                yield Leftover(kind, path.name, _size(path))
                if remove:
                    _remove(path)

    def _forget_gone(self) -> None:
        """Remove the locks and times of use of models that are here no more."""
        known = {manifest_id.hex() for manifest_id in self._objects.manifests()}
        for path in self._places.used.iterdir():
            if path.name not in known:
                path.unlink(missing_ok=True)
        for path in self._places.locks.glob("*.*"):
            if path.stem not in known and (lock := FileLock.take(path, exclusive=True)):
                lock.discard()


def _changed(path: Path) -> float:
    """Return when anything in a file or directory was changed last (epoch seconds).

    By ctime: what was renamed into the store has just come, whatever its time of change.
    """
    try:
        inner = [os.lstat(one).st_ctime for one in (path, *path.rglob("*"))]
    except FileNotFoundError:
        # Somebody is at it at this moment.
        return float("inf")
    return max(inner)


def _size(path: Path) -> int:
    if path.is_dir() and not path.is_symlink():
        return sum(space.allocated_bytes(status) for status in walk([path], set()))
    return space.allocated_bytes(path.lstat())


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
