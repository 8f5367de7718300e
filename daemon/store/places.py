"""Where the store keeps what, below MODELS_DIR::

NAME-SHORTID/           a model as its user sees it: hard links to files/
.dreamer/objects/HEX    manifests and outboards, named by their BLAKE3
.dreamer/files/HEX      files, read-only, named by their BLAKE3
.dreamer/partial/HEX/   what is there so far of the model HEX: one file per missing file
.dreamer/quarantine/HEX a file that was damaged; its good blocks are used again
.dreamer/staging/NAME/  work under way of one process, and NAME.lock, held as long as it lives
.dreamer/used/HEX       its time of change is when the model HEX was used last, by any daemon here
.dreamer/pins/          which models are never evicted, and why
.dreamer/locks/         HEX.pull: held by the one process that downloads the model HEX; HEX.use: by
                        all that use it; changes: for moments, by whoever adds or takes away
.dreamer/layouts/NAME-SHORTID  which model a daemon laid out there: such a one may be repaired
.dreamer/store.lock     held by every process that uses the store
.dreamer/store.id       tells a copy of the store from the original

Several daemons may share one store. They trust each other's locks and pins, and of content only the
hashes: each remembers in its own database what it has verified itself.
"""

from __future__ import annotations

import itertools
import os
import re
import secrets
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from dreamer.protocol.errors import LocalError
from dreamer.protocol.ids import Digest, ManifestId

STAGING_LOCK_SUFFIX = ".lock"

_MODEL_DIRECTORY = re.compile(r".*-[0-9a-f]{8}")


@dataclass(frozen=True)
class Location:
    """``length`` bytes at ``offset`` of the file at ``path``."""

    path: Path
    offset: int
    length: int


@dataclass(frozen=True)
class Usage:
    """Bytes in whole files, in partial and quarantined ones, and free on the store's disk.

    ``used_bytes`` is what counts against the quota; ``quota_bytes`` is 0 where there is none.
    """

    content_bytes: int
    partial_bytes: int
    free_bytes: int
    used_bytes: int = 0
    quota_bytes: int = 0


def _own_name() -> str:
    return f"{os.getpid()}-{secrets.token_hex(8)}"


@dataclass(frozen=True)
class Places:
    """The directories of a store at ``root``, as one process sees them."""

    root: Path
    _own: str = field(default_factory=_own_name, compare=False)
    _numbers: itertools.count[int] = field(default_factory=itertools.count, compare=False)

    @property
    def inner(self) -> Path:
        """The directory that holds everything but what users see."""
        return self.root / ".dreamer"

    @property
    def objects(self) -> Path:
        """Manifests and outboards."""
        return self.inner / "objects"

    @property
    def files(self) -> Path:
        """Whole, verified files."""
        return self.inner / "files"

    @property
    def partial(self) -> Path:
        """Files being fetched."""
        return self.inner / "partial"

    @property
    def quarantine(self) -> Path:
        """Files that turned out damaged."""
        return self.inner / "quarantine"

    @property
    def staging(self) -> Path:
        """Work under way, of all processes."""
        return self.inner / "staging"

    @property
    def own_staging(self) -> Path:
        """Work under way, of this process."""
        return self.staging / self._own

    @property
    def locks(self) -> Path:
        """Locks of models, and the one for changes."""
        return self.inner / "locks"

    @property
    def used(self) -> Path:
        """When each model was used."""
        return self.inner / "used"

    @property
    def pins(self) -> Path:
        """Which models are kept."""
        return self.inner / "pins"

    @property
    def layouts(self) -> Path:
        """Which directories were made by a daemon of this store."""
        return self.inner / "layouts"

    @property
    def changes(self) -> Path:
        """Locked for moments by whoever adds or takes away."""
        return self.locks / "changes"

    def partial_of(self, manifest_id: ManifestId) -> Path:
        """The partial files of one model."""
        return self.partial / manifest_id.hex()

    def pull_lock(self, manifest_id: ManifestId) -> Path:
        """Locked by the process that downloads a model."""
        return self.locks / f"{manifest_id.hex()}.pull"

    def use_lock(self, manifest_id: ManifestId) -> Path:
        """Locked by all processes that use a model."""
        return self.locks / f"{manifest_id.hex()}.use"

    def object(self, digest: Digest) -> Path:
        """A manifest or outboard."""
        return self.objects / digest.hex()

    def model_directories(self) -> Iterator[Path]:
        """Yield the directories that are, or look like, models as their users see them."""
        for place in self.root.iterdir():
            if _MODEL_DIRECTORY.fullmatch(place.name) and not place.is_symlink():
                yield place

    def make(self) -> None:
        """Make the directories that aren't there.

        Raises:
            LocalError: one is a link or something else, so writing could end up elsewhere.
        """
        self.root.mkdir(parents=True, exist_ok=True)
        # MODELS_DIR itself may be a link, as its owner likes; what we write into may not.
        for place in (self.inner, *self._below()):
            if place.is_symlink() or (place.exists() and not place.is_dir()):
                raise LocalError(f"{place} must be a directory of its own: move it away")
            place.mkdir(exist_ok=True)

    def _below(self) -> tuple[Path, ...]:
        content = (self.objects, self.files, self.partial, self.quarantine, self.staging)
        return (*content, self.locks, self.used, self.pins, self.layouts)

    def new_staging(self) -> Path:
        """Return a path in staging that nobody uses, neither here nor in another process."""
        return self.own_staging / str(next(self._numbers))
