"""The content store: what a node holds, by hashes. See ``places.py`` for where it lies.

Every method blocks on the disk and may be called from several threads at once; the event loop
calls none but ``locate_all``, ``keep``, ``let_go`` and ``used``. Several daemons may use one store.
"""

from __future__ import annotations

import functools
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from dreamer.daemon.state import State
from dreamer.daemon.store import space
from dreamer.daemon.store.claims import Claims
from dreamer.daemon.store.collecting import Collector, Leftovers
from dreamer.daemon.store.download import Download
from dreamer.daemon.store.eviction import Eviction
from dreamer.daemon.store.files import StoredFiles
from dreamer.daemon.store.hashing import OnBytes
from dreamer.daemon.store.ingest import Ingest, OnProgress
from dreamer.daemon.store.inventory import Breakdown, Inventory
from dreamer.daemon.store.layouts import Layouts
from dreamer.daemon.store.locks import waited_for
from dreamer.daemon.store.objects import Objects
from dreamer.daemon.store.partial import PartialFiles
from dreamer.daemon.store.pins import Pin, Pins
from dreamer.daemon.store.places import Location, Places, Usage
from dreamer.daemon.store.quota import Need, Quota, StoreLimits, room_for
from dreamer.daemon.store.reach import Reach
from dreamer.daemon.store.removal import Removal
from dreamer.daemon.store.reuse import Reuse
from dreamer.daemon.store.source import scan
from dreamer.daemon.store.staging import Staging, sweep
from dreamer.daemon.store.uses import Uses
from dreamer.daemon.store.volume import SharedStoreLock, forget_other_volume
from dreamer.protocol.content import manifest as manifests
from dreamer.protocol.content.manifest import FileEntry, Manifest
from dreamer.protocol.content.outboard import Outboard
from dreamer.protocol.errors import LocalError, NoMatchError
from dreamer.protocol.eviction import Kept
from dreamer.protocol.ids import Digest, ManifestId, short


class Store:
    """The content below one MODELS_DIR, which other daemons may use at the same time.

    Raises:
        LocalError: from any method, when the disk is full or fails, or (at start) an older Dreamer
            holds the store, or its file system has no locks.
    """

    def __init__(self, root: Path, state: State, limits: StoreLimits | None = None) -> None:
        places = self._places = Places(root.absolute())
        self._state = state
        with space.explained(root), ExitStack() as stack:
            places.make()
            self._held = SharedStoreLock(places)
            stack.callback(self._held.close)
            self._staging = Staging(places)
            stack.callback(self._staging.close)
            sweep(places)
            self.reach = Reach(places, self._staging.lock)
            forget_other_volume(places, state)
            self._objects = Objects(places)
            stack.pop_all()
        self._files = StoredFiles(places, state)
        self._layouts = Layouts(places, self._files, state)
        self._claims = Claims(places)
        self.pins = Pins(places)
        self.uses = Uses(places)
        self._removal = Removal(places, self._objects, self._files, self.uses, state)
        self.quota = Quota(places, limits or StoreLimits())
        self.eviction = Eviction(
            *(places, self.quota, self._objects, self._files, self.uses, self.pins),
            *(self._claims, self._removal, state),
        )
        self.inventory = Inventory(places, self._objects, self._files, self.eviction)

    def close(self) -> None:
        """Use the store no more."""
        self.uses.close()
        self.reach.close()
        self._staging.close()
        self._held.close()

    @contextmanager
    def _changing(self) -> Iterator[None]:
        """Let nobody else add or take away meanwhile, in no process."""
        self.reach.require()
        with waited_for(self._places.changes, f"the store at {self.root}"):
            yield

    @contextmanager
    def _admission(self, wanted: ManifestId | None = None) -> Iterator[Callable[[Need], None]]:
        with self._changing():
            yield lambda need: self.eviction.admit(need, wanted)

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
        with (
            space.explained(self.root),
            Ingest(found, staging, self._files, self._admission) as ingest,
        ):
            taken = ingest.stage(progress, stop)
            manifest = taken.manifest
            is_new = not self._objects.has(Digest(manifest.id))
            with self.uses.kept(manifest.id):
                # The manifest first: files that no manifest names could never be removed.
                self._put(manifest.outboard, taken.outboard.hashes)
                self._put(Digest(manifest.id), manifests.encode(manifest))
                # Until somebody says where else it is: what was made here must not get lost.
                if is_new:
                    self.pins.put(Pin(manifest.id, at=time.time(), only_copy=True))
                ingest.adopt(manifest)
            self.uses.note(manifest.id)
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
            self._put(digest, data)

    def _put(self, digest: Digest, data: bytes) -> None:
        # Who removes a model must see all manifests that name its files.
        with self._changing():
            if self.quota.bounded and not self._objects.has(digest):
                self.eviction.admit(Need(0, room_for(len(data))), ManifestId(digest))
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
            self._files.look()
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
            HeldElsewhereError: another process downloads it; see ``downloader``.
            StoppedError: ``stop`` was set.
        """
        # Claimed before the long part: two downloads would write into the same files.
        manifest_id = manifest.id
        self.reach.require()
        with ExitStack() as stack, space.explained(self.root):
            self._claims.claim(manifest_id)
            stack.callback(self._claims.release, manifest_id)
            stack.enter_context(self.uses.kept(manifest_id))
            self.uses.note(manifest_id)
            partial = PartialFiles(self._places.partial_of(manifest_id))
            # Before the claim is let go: an empty directory may be the next download's.
            stack.callback(partial.tidy)
            download = Download(manifest, outboard, self._files, partial)
            download.prepare(
                Reuse(self._objects, self._files, stop),
                functools.partial(self._admission, manifest_id),
                *(progress, stop),
            )
            self._claims.begun(manifest_id, download)
            # All of it is undone when the download is closed.
            download.on_close = stack.pop_all().close
        return download

    def downloader(self, manifest_id: ManifestId) -> str:
        """Return which other process downloads a model, in words; empty if none does."""
        with space.explained(self.root):
            return self._claims.elsewhere(manifest_id)

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
        if not self.touch(manifest.id):
            return None
        download = self._claims.download(manifest.id)
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

    def touch(self, manifest_id: ManifestId) -> bool:
        """Say that a model is in use at this moment; False if it is just being removed."""
        try:
            return self.uses.touch(manifest_id)
        except OSError:
            # A disk that can't hold a lock can still be read; the worst is an eviction meanwhile.
            return True

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
        with space.explained(self.root):
            self.uses.note(manifest_id)
        return self._layouts.lay_out(manifest_id, manifest, name, output)

    def forget(self, manifest_id: ManifestId) -> int:
        """Remove a model, but for files that another model here names; return the bytes freed.

        Directories outside MODELS_DIR are their user's and stay.

        Raises:
            LocalError: it is being downloaded, is pinned, or another process uses it.
        """
        name = short(manifest_id)
        with ExitStack() as stack, space.explained(self.root):
            self.require_removable(manifest_id)
            self._claims.claim(manifest_id)
            stack.callback(self._claims.release, manifest_id)
            lock = self.uses.alone(manifest_id, though_touched=True)
            if lock is None:
                raise LocalError(f"{name} is in use, maybe by another daemon: stop what uses it")
            stack.callback(lock.discard)
            with self._layouts.lock, self._changing():
                freed = self._removal.remove(manifest_id)
            self.pins.copied(manifest_id)
            return freed

    def require_removable(self, manifest_id: ManifestId) -> None:
        """Refuse to remove what somebody else wants to stay.

        Raises:
            LocalError: it is pinned, or another process uses it.
        """
        name = short(manifest_id)
        with space.explained(self.root):
            if pins := [pin for pin in self.pins.of(manifest_id) if pin.kept is Kept.PINNED]:
                why = ", ".join(pin.reason for pin in pins)
                raise LocalError(f"{name} is pinned {why}: dreamer store unpin {name}")
            if self.uses.is_elsewhere(manifest_id):
                raise LocalError(f"{name} is in use by another daemon: stop what uses it there")

    # What is used and kept

    def keep(self, manifest_id: ManifestId) -> None:
        """Keep a model from being evicted, by any daemon, until ``let_go`` or this process ends."""
        with space.explained(self.root):
            self.uses.keep(manifest_id)

    def let_go(self, manifest_id: ManifestId) -> None:
        """End what ``keep`` began."""
        self.uses.let_go(manifest_id)

    def used(self, manifest_id: ManifestId, at: float | None = None) -> None:
        """Record that a model was used (epoch seconds, by default now): who is evicted first.

        Giving its blocks to others is no use: a crowd would keep here what nobody here needs.
        """
        with space.explained(self.root):
            self.uses.note(manifest_id, at)

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
            return self.inventory.usage(self.quota)

    def breakdown(self) -> Breakdown:
        """Return where the bytes are."""
        with space.explained(self.root):
            return self.inventory.breakdown(self.quota)

    def collect(self, keep: Collection[Digest], older_than_s: float, remove: bool) -> Leftovers:
        """Find what nobody needs, and remove it if told so; see ``collecting``."""
        with space.explained(self.root), self._changing():
            collector = Collector(self._places, self._objects, self._claims, self.uses)
            return collector.collect(keep, older_than_s, remove)

    def verify(
        self, manifest_id: ManifestId, on_bytes: OnBytes, stop: threading.Event
    ) -> list[FileEntry]:
        """Hash all files of a model anew; return those that are missing or were damaged.

        Damaged ones go to quarantine, from where a pull takes their good blocks.

        Raises:
            NoMatchError: there is no such model here.
            StoppedError: ``stop`` was set.
        """
        with space.explained(self.root), self.uses.kept(manifest_id):
            manifest = self._objects.manifest(manifest_id)
            if manifest is None:
                raise NoMatchError(f"{short(manifest_id)} is not in the store: pull it first")
            return [
                entry for entry in manifest.files if not self._files.verify(entry, stop, on_bytes)
            ]
