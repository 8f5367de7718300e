"""The content store: what a node holds, by hashes. See ``places.py`` for where it lies.

Every method blocks on the disk and may be called from several threads at once; the event loop
calls none but ``locate_all``.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from pathlib import Path

from dreamer.daemon.process_lock import ProcessLock
from dreamer.daemon.state import State
from dreamer.daemon.store import space
from dreamer.daemon.store.download import Download
from dreamer.daemon.store.files import StoredFiles
from dreamer.daemon.store.ingest import Ingest, OnProgress
from dreamer.daemon.store.model_directory import ModelDirectory, directory_name
from dreamer.daemon.store.objects import Objects
from dreamer.daemon.store.partial import PartialFiles
from dreamer.daemon.store.places import Location, Places, Usage
from dreamer.daemon.store.reuse import Reuse
from dreamer.daemon.store.source import scan
from dreamer.protocol.content import manifest as manifests
from dreamer.protocol.content.manifest import Manifest
from dreamer.protocol.content.outboard import Outboard
from dreamer.protocol.errors import InputError, LocalError
from dreamer.protocol.ids import Digest, ManifestId, short


class Store:
    """The content below one MODELS_DIR; one process at a time may hold it.

    Raises:
        LocalError: from any method, when the disk is full or fails, or (at start) another
            process holds the store.
    """

    def __init__(self, root: Path, state: State) -> None:
        self._places = Places(root.absolute())
        self._state = state
        # One guards the table of downloads and is never held for long; the other, directories.
        self._lock = threading.Lock()
        self._directories = threading.Lock()
        self._downloads: dict[ManifestId, Download | None] = {}
        with space.explained(root):
            self._places.make()
            self._held = ProcessLock(
                self._places.inner / "store.lock",
                f"the store at {root} is in use by process {{pid}}: stop that one first, or choose "
                "another MODELS_DIR",
            )
        try:
            with space.explained(root):
                self._places.sweep()
                self._objects = Objects(self._places)
        except LocalError:
            self._held.close()
            raise
        self._files = StoredFiles(self._places, state)

    def close(self) -> None:
        """Let another process have the store."""
        self._held.close()

    @property
    def root(self) -> Path:
        """The MODELS_DIR of this store."""
        return self._places.root

    def ingest(
        self,
        source: Path,
        progress: OnProgress,
        stop: threading.Event,
        allow_pickle: bool = False,
    ) -> tuple[ManifestId, Manifest]:
        """Copy a file or directory into the store; return its id and manifest.

        Raises:
            InputError: the source can't be a model, or changed meanwhile.
            StoppedError: ``stop`` was set; nothing is kept.
        """
        # All that can be refused is refused before a byte is copied.
        found = scan(source, self._places.inner, allow_pickle)
        staging = self._places.new_staging()
        with space.explained(self.root), Ingest(found, staging, self._files) as ingest:
            taken = ingest.stage(progress, stop)
            manifest = taken.manifest
            # The manifest first: files that no manifest names could never be removed.
            self._objects.put(manifest.outboard, taken.outboard.hashes)
            self._objects.put(Digest(manifest.id), manifests.encode(manifest))
            ingest.adopt(manifest)
        return manifest.id, manifest

    def has_object(self, digest: Digest) -> bool:
        """Say whether a manifest or outboard is there."""
        return self._objects.has(digest)

    def put_object(self, digest: Digest, data: bytes) -> None:
        """Keep a manifest or outboard.

        Raises:
            ManifestError: ``data`` is not what ``digest`` names, or is too long.
        """
        with space.explained(self.root):
            self._objects.put(digest, data)

    def get_object(self, digest: Digest) -> bytes | None:
        """Return a manifest's or outboard's bytes; None if not there or gone bad."""
        with space.explained(self.root):
            return self._objects.get(digest)

    def manifest(self, manifest_id: ManifestId) -> Manifest | None:
        """Return a manifest that is there, whether its content is or not."""
        return self._objects.manifest(manifest_id)

    def outboard(self, manifest: Manifest) -> Outboard | None:
        """Return a manifest's outboard if it is there.

        Raises:
            ManifestError: the manifest names something else as its outboard.
        """
        with space.explained(self.root):
            return self._objects.outboard(manifest)

    def complete(self, manifest: Manifest, stop: threading.Event | None = None) -> bool:
        """Say whether every file is stored and good; those that may have changed are re-hashed.

        A damaged file goes to quarantine. Raises StoppedError once ``stop`` is set.
        """
        event = stop or threading.Event()
        with space.explained(self.root):
            # All of them are looked at, so that all damage is found at once.
            damaged = [item for item in manifest.files if not self._files.stored(item, event)]
        return not damaged

    def open_download(
        self,
        manifest: Manifest,
        outboard: Outboard,
        progress: OnProgress,
        stop: threading.Event,
    ) -> Download:
        """Begin or take up the download of a model: re-verify, reserve room, copy what can be.

        Raises:
            LocalError: it is being downloaded already, or there is not enough room.
            StoppedError: ``stop`` was set.
        """
        # Claimed before the long part: two downloads would write into the same files.
        manifest_id = manifest.id
        self._claim(manifest_id)
        partial = PartialFiles(self._places.partial / manifest_id.hex())
        download = Download(
            manifest, outboard, self._files, partial, lambda: self._release(manifest_id)
        )
        ready = False
        try:
            with space.explained(self.root):
                download.prepare(Reuse(self._objects, self._files, stop), progress, stop)
            ready = True
        finally:
            if not ready:
                download.close()
        with self._lock:
            self._downloads[manifest_id] = download
        return download

    def _claim(self, manifest_id: ManifestId) -> None:
        with self._lock:
            if manifest_id in self._downloads:
                raise LocalError(
                    f"{short(manifest_id)} is being downloaded or removed already: wait for that"
                )
            self._downloads[manifest_id] = None

    def _release(self, manifest_id: ManifestId) -> None:
        with self._lock:
            self._downloads.pop(manifest_id, None)

    def new_folder(self) -> Path:
        """Return a path on the store's disk, for work under way; what is there goes at a start."""
        return self._places.new_staging()

    def file(self, digest: Digest) -> Path:
        """Return where a stored file is, or would be."""
        return self._files.path(digest)

    def locate(self, manifest: Manifest, block: int) -> Location | None:
        """Return where a block's bytes lie; see ``locate_all``."""
        found = self.locate_all(manifest, (block,))
        return found[0] if found else None

    def locate_all(self, manifest: Manifest, blocks: Iterable[int]) -> list[Location] | None:
        """Return where blocks lie: in stored files, or in a running download's partial ones.

        None if one of them is nowhere. Of a download, ask only for blocks that were verified. A
        partial file may be renamed at any moment: when opening fails, ask again. Costs
        microseconds, since disk and database are asked once for each file.
        """
        with self._lock:
            download = self._downloads.get(manifest.id)
        stored: dict[int, Path | None] = {}
        found: list[Location] = []
        for block in blocks:
            span = manifest.layout.span(block)
            if span.file_index not in stored:
                stored[span.file_index] = self._stored_path(manifest, span.file_index)
            path = stored[span.file_index]
            if path is None and download is not None:
                if (place := download.readable(block)) is not None:
                    found.append(place)
                    continue
                # It may have become whole, and been moved, since the look at its file.
                path = stored[span.file_index] = self._stored_path(manifest, span.file_index)
            if path is None:
                return None
            found.append(Location(path, span.offset, span.length))
        return found

    def _stored_path(self, manifest: Manifest, file_index: int) -> Path | None:
        entry = manifest.files[file_index]
        return self._files.path(entry.digest) if self._files.trusted(entry) else None

    def lay_out(
        self, manifest_id: ManifestId, manifest: Manifest, name: str, output: Path | None
    ) -> Path:
        """Make the model's directory, below MODELS_DIR or at ``output``; return where it is.

        Does nothing if it is there already, and repairs one that the store made.

        Raises:
            InputError: something else is at ``output``.
            LocalError: a file of the model is not stored.
        """
        missing = [entry.path for entry in manifest.files if not self._files.trusted(entry)]
        if missing:
            raise LocalError(f"{missing[0]!r} of {short(manifest_id)} is missing: pull it again")
        # Resolved, so that the record of it does not depend on where we stand.
        target = output.resolve() if output else self.root / directory_name(name, manifest_id)
        with self._directories, space.explained(target):
            self._put_directory(manifest_id, manifest, target, is_ours=output is None)
        return target

    def _put_directory(
        self, manifest_id: ManifestId, manifest: Manifest, target: Path, is_ours: bool
    ) -> None:
        directory = ModelDirectory(target, manifest, self._files)
        if directory.is_free():
            # A rename needs the same file system, which a user's choice of output may not be on.
            aside = target.with_name(f".{target.name[:60]}.dreamer-new")
            target.parent.mkdir(parents=True, exist_ok=True)
            directory.build(self._places.new_staging() if is_ours else aside)
            # Only what was made here may be repaired here; the rest is its user's to change.
            self._state.put_layout(target, manifest_id)
        elif self._state.laid_out(target) == manifest_id and target.is_dir():
            directory.repair()
        elif any(directory.differing(thorough=True)):
            raise InputError(
                f"{target} is there and holds something else: move it away or choose another "
                "--output"
            )

    def forget(self, manifest_id: ManifestId) -> int:
        """Remove a model, but for files that another model here names; return the bytes freed.

        Directories outside MODELS_DIR are their user's and stay.

        Raises:
            LocalError: it is being downloaded.
        """
        self._claim(manifest_id)
        try:
            with self._directories, space.explained(self.root):
                manifest = self._objects.manifest(manifest_id)
                return self._remove(manifest_id, manifest) if manifest else 0
        finally:
            self._release(manifest_id)

    def _remove(self, manifest_id: ManifestId, manifest: Manifest) -> int:
        for place in self.root.glob(f"*-{short(manifest_id)}"):
            if place.is_dir() and not place.is_symlink():
                ModelDirectory(place, manifest, self._files).remove()
        self._state.drop_layouts(manifest_id)
        return self._remove_content(manifest_id, manifest)

    def _remove_content(self, manifest_id: ManifestId, manifest: Manifest) -> int:
        freed = PartialFiles(self._places.partial / manifest_id.hex()).remove()
        # First, so that it no longer counts among the others.
        freed += self._objects.remove(Digest(manifest_id))
        # Those under way count too: they were told that these files are here.
        others = [*self._objects.manifests().values(), *self._under_way()]
        kept = {entry.digest for other in others for entry in other.files}
        for entry in manifest.files:
            if entry.digest not in kept:
                freed += self._files.remove(entry.digest)
        if all(other.outboard != manifest.outboard for other in others):
            freed += self._objects.remove(manifest.outboard)
        return freed

    def _under_way(self) -> list[Manifest]:
        with self._lock:
            return [download.manifest for download in self._downloads.values() if download]

    def held(self, stop: threading.Event | None = None) -> list[ManifestId]:
        """Return the models that are complete, in the order of their ids; see ``complete``."""
        known = self._objects.manifests()
        return sorted(name for name, manifest in known.items() if self.complete(manifest, stop))

    def known(self) -> list[ManifestId]:
        """Return the models of which there is a manifest here, whole or not, by their ids."""
        return sorted(self._objects.manifests())

    def usage(self) -> Usage:
        """Return how much room the store takes, and what is left."""
        with space.explained(self.root):
            return Usage(
                content_bytes=_allocated(self._places.files),
                partial_bytes=_allocated(self._places.partial)
                + _allocated(self._places.quarantine),
                free_bytes=space.free_bytes(self.root),
            )


def _allocated(directory: Path) -> int:
    files = (path for path in directory.rglob("*") if path.is_file())
    return sum(space.allocated_bytes(path.lstat()) for path in files)
