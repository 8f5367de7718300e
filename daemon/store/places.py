"""Where the store keeps what, below MODELS_DIR::

NAME-SHORTID/           a model as its user sees it: hard links to files/
.dreamer/objects/HEX    manifests and outboards, named by their BLAKE3
.dreamer/files/HEX      files, read-only, named by their BLAKE3
.dreamer/partial/HEX/   what is there so far of the model HEX: one file per missing file
.dreamer/quarantine/HEX a file that was damaged; its good blocks are used again
.dreamer/staging/       work under way; emptied at start
.dreamer/store.lock     held by the one process that uses the store
"""

from __future__ import annotations

import itertools
import shutil
from dataclasses import dataclass, field
from pathlib import Path

from dreamer.protocol.errors import LocalError


@dataclass(frozen=True)
class Location:
    """``length`` bytes at ``offset`` of the file at ``path``."""

    path: Path
    offset: int
    length: int


@dataclass(frozen=True)
class Usage:
    """Bytes in whole files, in partial and quarantined ones, and free on the store's disk."""

    content_bytes: int
    partial_bytes: int
    free_bytes: int


@dataclass(frozen=True)
class Places:
    """The directories of a store at ``root``."""

    root: Path
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
        """Work under way."""
        return self.inner / "staging"

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
        return (self.objects, self.files, self.partial, self.quarantine, self.staging)

    def sweep(self) -> None:
        """Remove what an interrupted process left in staging."""
        # Safe because the lock is held: nobody else has work under way here.
        for left in self.staging.iterdir():
            if left.is_dir() and not left.is_symlink():
                shutil.rmtree(left)
            else:
                left.unlink()

    def new_staging(self) -> Path:
        """Return a path in staging that nobody uses; the store's lock makes a count enough."""
        return self.staging / str(next(self._numbers))
