"""One model being fetched: what is here already, where the rest goes, and when a file is whole."""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType

from dreamer.daemon.store import beneath, space
from dreamer.daemon.store.copying import write_all
from dreamer.daemon.store.files import StoredFiles
from dreamer.daemon.store.hashing import flushing
from dreamer.daemon.store.ingest import OnProgress
from dreamer.daemon.store.partial import PartialFiles, verified_blocks
from dreamer.daemon.store.places import Location
from dreamer.daemon.store.quota import Admission, Need, allocated_bytes, counted, promised, room_for
from dreamer.daemon.store.reuse import Reuse
from dreamer.daemon.store.trailing import TrailingHashes
from dreamer.protocol.content.manifest import FileEntry, Manifest
from dreamer.protocol.content.outboard import Outboard
from dreamer.protocol.errors import DiskError, ManifestError, StoppedError
from dreamer.protocol.ids import Digest

_FETCHED_ANEW = ("pull again to fetch what is missing", "what is missing is fetched again")


class Download:
    """Made by ``Store.open_download``; close it when done, or to go on another day.

    Lanes verify a block against ``outboard`` and then ``write`` it, or write it themselves where
    ``target`` says, opening the path anew for each block and without following links.
    ``present`` says what was here at the start: bit i stands for block i. Files that are the same
    are written once: ``same`` names the blocks that share bytes.
    """

    def __init__(
        self,
        manifest: Manifest,
        outboard: Outboard,
        files: StoredFiles,
        partial: PartialFiles,
    ) -> None:
        self.manifest = manifest
        self.outboard = outboard
        self.present = 0
        self.cached_bytes = 0
        self.resumed_bytes = 0
        self.on_close: Callable[[], None] = lambda: None
        """Called once, at the end: lets go of what the download held."""
        self.on_lost: Callable[[DiskError], None] = lambda error: None
        """Called when what was written is gone again; the download must be opened anew."""
        self._files = files
        self._partial = partial
        self._closed = False
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._hashes = TrailingHashes(
            manifest.layout, lambda index: self._partial.open(manifest.files[index].digest)
        )
        self._targets: dict[int, Path] = {}
        # Which files of the manifest have the same bytes; nearly always one each.
        self._indexes: dict[Digest, list[int]] = {}
        for index, entry in enumerate(manifest.files):
            self._indexes.setdefault(entry.digest, []).append(index)

    def __enter__(self) -> Download:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def prepare(
        self, reuse: Reuse, admission: Admission, progress: OnProgress, stop: threading.Event
    ) -> None:
        """Find what is here already, reserve room for the rest. ``Store`` calls this once.

        ``stop`` ends the checks of whole files, too.

        Raises:
            DiskError: not enough room, or the disk failed.
            LocalError: there will never be enough room.
            StoppedError: ``stop`` was set.
        """
        self._stop = stop
        # Whoever downloaded it until now may have finished some on another host.
        self._files.look()
        for entry in self._distinct():
            # Hashes what may have changed; only then is it known what is missing.
            self._files.stored(entry, stop)
        # Before anything is said or read: a pull that waits for room tries this again and again.
        with admission() as admit:
            # From here on nobody removes a file that is here and that this model names.
            self._files.look()
            missing = [entry for entry in self._distinct() if not self._files.trusted(entry)]
            self._reserve(missing, admit)
        # In the order of what it costs: nothing, reading here, copying here.
        self._count_stored(missing)
        progress(self.cached_bytes, self.manifest.size_bytes)
        for _ in self._resume(missing, stop):
            progress(self.cached_bytes + self.resumed_bytes, self.manifest.size_bytes)
        for _ in self._copy(missing, reuse):
            progress(self.cached_bytes + self.resumed_bytes, self.manifest.size_bytes)

    def _distinct(self) -> list[FileEntry]:
        return [self.manifest.files[indexes[0]] for indexes in self._indexes.values()]

    def _count_stored(self, missing: list[FileEntry]) -> None:
        absent = {entry.digest for entry in missing}
        for index, entry in enumerate(self.manifest.files):
            if entry.digest not in absent:
                blocks = self.manifest.layout.blocks_of_file(index)
                self.present |= ((1 << len(blocks)) - 1) << blocks.start
                self.cached_bytes += entry.size_bytes

    def _reserve(self, missing: list[FileEntry], admit: Callable[[Need], None]) -> None:
        # Room that a former attempt reserved is not needed twice.
        kept = {entry.digest: self._partial.status(entry.digest) for entry in missing}
        need = Need(
            sum(max(0, e.size_bytes - allocated_bytes(kept[e.digest])) for e in missing),
            sum(max(0, room_for(e.size_bytes) - counted(kept[e.digest])) for e in missing),
            sum(min(e.size_bytes, promised(kept[e.digest])) for e in missing),
        )
        admit(need)
        with space.explained(self._partial.directory.parent):
            # All at once, so that a full disk shows before the first byte is fetched.
            for entry in missing:
                self._partial.make(entry)

    def _resume(self, missing: list[FileEntry], stop: threading.Event) -> Iterator[int]:
        for entry in missing:
            index = self._indexes[entry.digest][0]
            with beneath.opened(self._partial.open(entry.digest)) as fd:
                for block in verified_blocks(fd, index, self.manifest, self.outboard, stop):
                    self.resumed_bytes += self._mark(block)
                    yield block

    def _copy(self, missing: list[FileEntry], reuse: Reuse) -> Iterator[int]:
        wanted = (
            block
            for entry in missing
            for block in self.manifest.layout.blocks_of_file(self._indexes[entry.digest][0])
            # Read lazily, after resuming has marked what is on disk.
            if not self.present >> block & 1
        )
        for found in reuse.find(self.outboard, wanted):
            for block in found.blocks:
                self.write(block, found.data)
                self.cached_bytes += self._mark(block)
                yield block

    def _mark(self, block: int) -> int:
        """Count a block and its equals as present; return their bytes."""
        marked = (block, *self.same(block))
        for each in marked:
            self.present |= 1 << each
        return len(marked) * self.manifest.layout.block_size(block)

    def same(self, block: int) -> tuple[int, ...]:
        """Return the other blocks that lie at the same place, so are there once ``block`` is."""
        layout = self.manifest.layout
        index = layout.file_of(block)
        number = block - layout.blocks_of_file(index).start
        indexes = self._indexes[self.manifest.files[index].digest]
        return tuple(
            layout.blocks_of_file(other).start + number for other in indexes if other != index
        )

    def stored_path(self, file_index: int) -> Path:
        """Return where a whole file is, or will be."""
        return self._files.path(self.manifest.files[file_index].digest)

    def target(self, block: int) -> Location:
        """Return where a lane writes ``block`` once it has verified it."""
        span = self.manifest.layout.span(block)
        # A request may name a thousand blocks, mostly of one file.
        if (path := self._targets.get(span.file_index)) is None:
            digest = self.manifest.files[span.file_index].digest
            path = self._targets[span.file_index] = self._partial.path(digest)
        return Location(path, span.offset, span.length)

    def readable(self, block: int) -> Location | None:
        """Return where a verified block can be read; None if somebody cut its file short.

        Then ``on_lost`` is told: zeros in its place would be served as ours, and blamed on us.
        """
        span = self.manifest.layout.span(block)
        place = self.target(block)
        size_bytes = self.manifest.files[span.file_index].size_bytes
        if not self._partial.has_lost(place, size_bytes) or self._still_good(block, place):
            return place
        # A file that was finished meanwhile lies elsewhere, and is asked for there.
        if not self._files.trusted(self.manifest.files[span.file_index]):
            self.on_lost(DiskError(f"{place.path} has lost what was written to it", *_FETCHED_ANEW))
        return None

    def _still_good(self, block: int, place: Location) -> bool:
        """Look at the bytes themselves: some file systems keep zeros as holes."""
        try:
            with beneath.opened(os.open(place.path, os.O_RDONLY | os.O_NOFOLLOW)) as fd:
                return self.outboard.matches(block, os.pread(fd, place.length, place.offset))
        except OSError:
            return False

    def write(self, block: int, data: memoryview | bytes) -> None:
        """Write a verified block to its place; a file that is finished already stays as it is.

        Raises:
            DiskError: the disk failed.
        """
        span = self.manifest.layout.span(block)
        entry = self.manifest.files[span.file_index]
        with space.explained(self._partial.directory.parent):
            try:
                fd = self._partial.open(entry.digest)
            except FileNotFoundError:
                # Two lanes brought the block, and the other one's made the file whole.
                if self._files.trusted(entry):
                    return
                raise
            with beneath.opened(fd):
                write_all(fd, data, span.offset)

    def landed(self, block: int, present: int) -> None:
        """Note that a lane has written a verified block, besides those of the set ``present``.

        Its file is hashed so far meanwhile. To be called by one thread.
        """
        self._hashes.landed(block, present)

    def missing_files(self) -> list[int]:
        """Return the indexes of the files that are not stored yet, empty ones too."""
        entries = enumerate(self.manifest.files)
        return [index for index, entry in entries if not self._files.trusted(entry)]

    def finish_file(self, file_index: int, stop: threading.Event | None = None) -> None:
        """Check a whole file, make it durable and visible; nothing happens if it is already.

        Raises:
            ManifestError: every block is right and the file is not: its publisher erred.
            DiskError: a block on disk is not what was verified, or the disk failed; what is
                good stays for the next attempt.
            StoppedError: ``stop`` was set, or the download was closed.
        """
        entry = self.manifest.files[file_index]
        stop = stop or self._stop
        # Two lanes may bring the last two blocks at the same moment.
        with self._lock:
            if self._closed:
                # Its thread began late: the partial file may be the next download's by now.
                raise StoppedError("the download was closed: run the same command again to go on")
            if self._files.trusted(entry):
                return
            with (
                space.explained(self._partial.directory.parent),
                beneath.opened(self._partial.open(entry.digest)) as fd,
            ):
                digest = functools.partial(self._hashes.digest, file_index, fd, stop)
                if flushing(fd, digest) != entry.digest:
                    self._refuse(file_index, fd, stop)
                self._files.adopt(fd, self._partial.path(entry.digest), entry.digest)

    def _refuse(self, file_index: int, fd: int, stop: threading.Event) -> None:
        entry = self.manifest.files[file_index]
        blocks = self.manifest.layout.blocks_of_file(file_index)
        good = verified_blocks(fd, file_index, self.manifest, self.outboard, stop)
        # One that somebody made longer is cut when the download is opened anew.
        longer = os.fstat(fd).st_size > entry.size_bytes
        if longer or sum(1 for _ in good) < len(blocks):
            raise DiskError(f"{entry.path!r} is not whole on disk", *_FETCHED_ANEW)
        # No fetching can ever make it right.
        self._partial.discard(entry.digest)
        raise ManifestError(
            f"the hashes of {entry.path!r} contradict each other: ask for it to be pushed again"
        )

    def close(self) -> None:
        """Let go of the partial files; what is in them stays for the next attempt."""
        with self._lock:
            # A second close must not let go of what the next download of this model holds.
            closed, self._closed = self._closed, True
        if not closed:
            self._hashes.close()
            self.on_close()
