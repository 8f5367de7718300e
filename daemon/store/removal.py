"""Taking a model out of the store, but for the files that another model here names.

Whoever calls holds the lock for changes, and the model's own exclusively: a file must not be
counted as there by one process while another removes it.
"""

from __future__ import annotations

from pathlib import Path

from dreamer.daemon.state import State
from dreamer.daemon.store.files import StoredFiles
from dreamer.daemon.store.model_directory import ModelDirectory
from dreamer.daemon.store.objects import Objects
from dreamer.daemon.store.partial import PartialFiles
from dreamer.daemon.store.places import Places
from dreamer.daemon.store.uses import Uses
from dreamer.protocol.content.manifest import Manifest
from dreamer.protocol.ids import Digest, ManifestId, short


class Removal:
    """Removes models. Methods raise OSError as the disk does."""

    def __init__(
        self, places: Places, objects: Objects, files: StoredFiles, uses: Uses, state: State
    ) -> None:
        self._places = places
        self._objects = objects
        self._files = files
        self._uses = uses
        self._state = state

    def remove(self, manifest_id: ManifestId) -> int:
        """Remove a model; return the bytes that this gave back to the disk.

        Directories outside MODELS_DIR are their user's and stay.
        """
        models = self._objects.manifests(settled=True)
        manifest = models.pop(manifest_id, None)
        if manifest is None:
            return 0
        for place in self._directories(manifest_id):
            ModelDirectory(place, manifest, self._files).remove()
            (self._places.layouts / place.name).unlink(missing_ok=True)
        self._state.drop_layouts(manifest_id)
        freed = self._remove_content(manifest_id, manifest, list(models.values()))
        self._uses.forget(manifest_id)
        return freed

    def _directories(self, manifest_id: ManifestId) -> list[Path]:
        ending = f"-{short(manifest_id)}"
        places = self._places.model_directories()
        return [place for place in places if place.name.endswith(ending) and place.is_dir()]

    def _remove_content(
        self, manifest_id: ManifestId, manifest: Manifest, others: list[Manifest]
    ) -> int:
        freed = PartialFiles(self._places.partial_of(manifest_id)).remove()
        # Those under way count too, here and in other processes: their manifests are there, and
        # they were told that these files are.
        kept = {entry.digest for other in others for entry in other.files}
        for entry in manifest.files:
            if entry.digest not in kept:
                freed += self._files.remove(entry.digest)
        if all(other.outboard != manifest.outboard for other in others):
            freed += self._objects.remove(manifest.outboard)
        # Last of all: what a crash leaves must still be named, or nobody would ever remove it.
        return freed + self._objects.remove(Digest(manifest_id))
