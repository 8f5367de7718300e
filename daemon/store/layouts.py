"""The directories in which users find their models: made, found as they were, repaired."""

from __future__ import annotations

import errno
import threading
from contextlib import suppress
from pathlib import Path

from dreamer.daemon.state import State
from dreamer.daemon.store import space
from dreamer.daemon.store.files import StoredFiles
from dreamer.daemon.store.model_directory import ModelDirectory, directory_name
from dreamer.daemon.store.places import Places
from dreamer.protocol.content.manifest import Manifest
from dreamer.protocol.errors import DreamerError, InputError, LocalError
from dreamer.protocol.ids import ManifestId, from_hex, short


class Layouts:
    """Lays models out, below MODELS_DIR or where their user says."""

    def __init__(self, places: Places, files: StoredFiles, state: State) -> None:
        self._places = places
        self._files = files
        self._state = state
        self.lock = threading.Lock()
        """Directories are made and removed by one thread at a time."""

    def lay_out(
        self, manifest_id: ManifestId, manifest: Manifest, name: str, output: Path | None
    ) -> Path:
        """Make a model's directory; see ``Store.lay_out``."""
        missing = [entry.path for entry in manifest.files if not self._files.trusted(entry)]
        if missing:
            raise LocalError(f"{missing[0]!r} of {short(manifest_id)} is missing: pull it again")
        # Resolved, so that the record of it does not depend on where we stand.
        target = (
            output.resolve() if output else self._places.root / directory_name(name, manifest_id)
        )
        with self.lock, space.explained(target):
            self._put_directory(manifest_id, manifest, target, is_ours=output is None)
        return target

    def _put_directory(
        self, manifest_id: ManifestId, manifest: Manifest, target: Path, is_ours: bool
    ) -> None:
        directory = ModelDirectory(target, manifest, self._files)
        if directory.is_free() and self._build(directory, target, is_ours):
            # Only what was made here may be repaired here; the rest is its user's to change.
            self._record(target, manifest_id, is_ours)
        elif self._recorded(target, is_ours) == manifest_id and target.is_dir():
            directory.repair()
        elif any(directory.differing(thorough=True)):
            raise InputError(
                f"{target} is there and holds something else: move it away or choose another "
                "--output"
            )

    def _build(self, directory: ModelDirectory, target: Path, is_ours: bool) -> bool:
        """Make a directory; return whether it is us who made it."""
        # A rename needs the same file system, which a user's choice of output may not be on.
        aside = target.with_name(f".{target.name[:60]}.dreamer-new")
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            directory.build(self._places.new_staging() if is_ours else aside)
        except OSError as error:
            # Another daemon of this store was faster.
            if is_ours and error.errno in (errno.ENOTEMPTY, errno.EEXIST):
                return False
            raise
        return True

    def _record(self, target: Path, manifest_id: ManifestId, is_ours: bool) -> None:
        self._state.put_layout(target, manifest_id)
        if is_ours:
            # In the store, too, for its other daemons and for who comes with another home.
            staged = self._places.new_staging()
            staged.write_text(manifest_id.hex())
            staged.replace(self._places.layouts / target.name)

    def _recorded(self, target: Path, is_ours: bool) -> ManifestId | None:
        """Return the model that a daemon of this store laid out at ``target``."""
        found = self._state.laid_out(target)
        if found is None and is_ours:
            with suppress(FileNotFoundError, DreamerError):
                said = (self._places.layouts / target.name).read_text()
                return ManifestId(from_hex(said, "a model"))
        return found
