"""What a store holds, model by model, and where its bytes are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dreamer.daemon.store import space
from dreamer.daemon.store.eviction import Eviction
from dreamer.daemon.store.files import StoredFiles
from dreamer.daemon.store.objects import Objects
from dreamer.daemon.store.places import Places, Usage
from dreamer.daemon.store.quota import Quota, walk
from dreamer.protocol.content.manifest import Manifest
from dreamer.protocol.eviction import Candidate, Kept, shares
from dreamer.protocol.ids import Digest, ManifestId


@dataclass(frozen=True)
class Stocked:
    """One model as the store holds it.

    ``own_bytes`` is what comes free when it goes, ``here_bytes`` what is here of ``size_bytes``
    in whole files. ``whole``: all its files are here, verified or yet to be.
    """

    manifest_id: ManifestId
    size_bytes: int
    here_bytes: int
    own_bytes: int
    last_used: float
    in_use: bool
    whole: bool


@dataclass(frozen=True)
class Breakdown:
    """Where a store's bytes are, as the disk counts them; ``models`` by what only each holds.

    ``shared_bytes`` are of files that several models name, ``unnamed_bytes`` of files that none
    does, ``copies_bytes`` of what lies in models' directories and is no link to the store.
    """

    models: dict[ManifestId, int]
    shared_bytes: int
    unnamed_bytes: int
    partial_bytes: int
    quarantine_bytes: int
    staging_bytes: int
    objects_bytes: int
    copies_bytes: int
    used_bytes: int
    quota_bytes: int
    free_bytes: int
    min_free_bytes: int


class Inventory:
    """Counts what one store holds. Methods raise OSError as the disk does."""

    def __init__(
        self, places: Places, objects: Objects, files: StoredFiles, eviction: Eviction
    ) -> None:
        self._places = places
        self._objects = objects
        self._files = files
        self._eviction = eviction

    def models(self) -> list[Stocked]:
        """Return every model of which there is a manifest, by id."""
        manifests = self._objects.manifests()
        candidates = self._eviction.candidates(set())
        own = shares(candidates)
        return [
            self._stocked(one, manifests[one.manifest_id], own[one.manifest_id])
            for one in sorted(candidates, key=lambda one: one.manifest_id)
            if one.manifest_id in manifests
        ]

    def _stocked(self, one: Candidate, manifest: Manifest, own_bytes: int) -> Stocked:
        here = [
            entry
            for entry in manifest.files
            if (status := self._files.status(entry.digest)) and status.st_size == entry.size_bytes
        ]
        return Stocked(
            one.manifest_id,
            manifest.size_bytes,
            sum(entry.size_bytes for entry in here),
            own_bytes,
            one.last_used,
            one.stays is Kept.IN_USE,
            len(here) == len(manifest.files),
        )

    def breakdown(self, quota: Quota) -> Breakdown:
        """Return where the bytes are."""
        places = self._places
        candidates = self._eviction.candidates(set())
        names: dict[Digest, int] = {}
        sizes: dict[Digest, int] = {}
        for one in candidates:
            for digest, size_bytes in one.files.items():
                names[digest] = names.get(digest, 0) + 1
                sizes[digest] = size_bytes
        seen: set[tuple[int, int]] = set()
        by_place = [
            sum(space.allocated_bytes(status) for status in walk([place], seen))
            for place in (places.files, places.objects, places.partial, places.quarantine)
        ]
        copies, staging = (
            sum(space.allocated_bytes(status) for status in walk(several, seen))
            for several in (places.model_directories(), [places.staging])
        )
        files_bytes, objects_bytes, partial_bytes, quarantine_bytes = by_place
        return Breakdown(
            models=shares(candidates),
            shared_bytes=sum(sizes[digest] for digest, count in names.items() if count > 1),
            unnamed_bytes=max(0, files_bytes - sum(sizes.values())),
            partial_bytes=partial_bytes,
            quarantine_bytes=quarantine_bytes,
            staging_bytes=staging,
            objects_bytes=objects_bytes,
            copies_bytes=copies,
            used_bytes=quota.used_bytes(),
            quota_bytes=quota.limits.quota_bytes,
            free_bytes=space.free_bytes(places.root),
            min_free_bytes=quota.limits.min_free_bytes,
        )

    def usage(self, quota: Quota) -> Usage:
        """Return how much room the store takes, and what is left."""
        places = self._places
        return Usage(
            content_bytes=_allocated(places.files),
            partial_bytes=_allocated(places.partial, places.quarantine),
            free_bytes=space.free_bytes(places.root),
            used_bytes=quota.used_bytes(),
            quota_bytes=quota.limits.quota_bytes,
        )


def _allocated(*places: Path) -> int:
    return sum(space.allocated_bytes(status) for status in walk(places, set()))
