"""Blocks that another stored file already holds: copied here instead of fetched."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from dreamer.daemon.store import beneath, stopping
from dreamer.daemon.store.copying import fill
from dreamer.daemon.store.files import StoredFiles
from dreamer.daemon.store.objects import Objects
from dreamer.protocol.content.manifest import Manifest
from dreamer.protocol.content.outboard import Outboard
from dreamer.protocol.errors import ManifestError
from dreamer.protocol.ids import Digest
from dreamer.protocol.limits import BLOCK_BYTES


@dataclass(frozen=True)
class FoundBlock:
    """The bytes of one block, verified, and the wanted blocks that are the same."""

    blocks: tuple[int, ...]
    data: memoryview


class Reuse:
    """Looks for wanted blocks in all files that the store holds, good or quarantined."""

    def __init__(self, objects: Objects, files: StoredFiles, stop: threading.Event) -> None:
        self._objects = objects
        self._files = files
        self._stop = stop
        self._buffer = memoryview(bytearray(BLOCK_BYTES))

    def find(self, outboard: Outboard, blocks: Iterable[int]) -> Iterator[FoundBlock]:
        """Yield what is found of ``blocks``, each once; its data is good until the next.

        Raises:
            StoppedError: the event was set.
            OSError: the disk said no.
        """
        # Indexed by what is wanted, not by what is held: a store may hold millions of blocks.
        wanted: dict[Digest, list[int]] = {}
        for block in blocks:
            wanted.setdefault(outboard.hash_of(block), []).append(block)
        seen: dict[Digest, None] = {}
        for manifest in self._objects.manifests().values():
            if not wanted:
                return
            yield from self._in_model(manifest, wanted, seen)

    def _in_model(
        self, manifest: Manifest, wanted: dict[Digest, list[int]], seen: dict[Digest, None]
    ) -> Iterator[FoundBlock]:
        try:
            outboard = self._objects.outboard(manifest)
        except ManifestError:
            # That model can't be used, which is no reason not to fetch this one.
            return
        if outboard is None:
            return
        for index, entry in enumerate(manifest.files):
            # Versions of a model share most files; each is looked through once.
            if entry.digest not in seen:
                seen[entry.digest] = None
                yield from self._in_file(manifest, outboard, index, wanted)

    def _in_file(
        self,
        manifest: Manifest,
        outboard: Outboard,
        index: int,
        wanted: dict[Digest, list[int]],
    ) -> Iterator[FoundBlock]:
        blocks = manifest.layout.blocks_of_file(index)
        hits = [block for block in blocks if outboard.hash_of(block) in wanted]
        path = self._files.salvage(manifest.files[index].digest) if hits else None
        if path is None:
            return
        with beneath.opened(os.open(path, os.O_RDONLY | os.O_NOFOLLOW)) as fd:
            for block in hits:
                stopping.check(self._stop)
                data = self._buffer[: manifest.layout.block_size(block)]
                count = fill(fd, data, (block - blocks.start) * BLOCK_BYTES)
                # Hashed again: the file may be a quarantined one.
                if count == len(data) and outboard.matches(block, data):
                    # A file may hold the same block twice; the second finds it gone.
                    found = wanted.pop(outboard.hash_of(block), [])
                    yield FoundBlock(tuple(found), data)
