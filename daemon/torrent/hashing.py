"""The hashes of a public model's torrent, made of its stored files: a second read, on two threads.

Only public models pay for it. One thread reads and makes the SHA-1 of pieces, the other the tree.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from dreamer.daemon.store import beneath, stopping
from dreamer.daemon.store.copying import fill
from dreamer.daemon.store.ingest import OnProgress
from dreamer.protocol.content.torrent_hashes import (
    FileTree,
    TorrentHashes,
    piece_leaves,
    piece_sha1,
)
from dreamer.protocol.content.torrent_layout import TorrentLayout
from dreamer.protocol.content.torrent_metadata import Metadata, describe
from dreamer.protocol.errors import LocalError
from dreamer.protocol.ids import Digest


class TorrentHasher:
    """Hashes the files of one layout; ``path`` says where a stored file is."""

    def __init__(
        self,
        layout: TorrentLayout,
        path: Callable[[Digest], Path],
        progress: OnProgress,
        stop: threading.Event,
    ) -> None:
        self._layout = layout
        self._path = path
        self._progress = progress
        self._stop = stop
        self._done = 0
        # Two buffers: one is being hashed as a tree while the next is filled.
        self._buffers = [memoryview(bytearray(layout.piece_bytes)) for _ in range(2)]

    def run(self) -> Metadata:
        """Return the metadata.

        Raises:
            LocalError: a stored file is not as long as it was.
            StoppedError: ``stop`` was set.
            OSError: the disk said no.
        """
        known: dict[Digest, TorrentHashes] = {}
        with ThreadPoolExecutor(1, "dreamer-tree") as thread:
            for entry in self._layout.manifest.files:
                # Files with the same bytes are hashed once; in a torrent they are two.
                if entry.digest not in known:
                    place = self._path(entry.digest)
                    known[entry.digest] = self._file(place, entry.size_bytes, thread)
        hashes = [known[entry.digest] for entry in self._layout.manifest.files]
        return describe(self._layout, hashes)

    def _file(self, path: Path, size_bytes: int, thread: ThreadPoolExecutor) -> TorrentHashes:
        digests = bytearray()
        tree = FileTree(size_bytes, self._layout.piece_bytes)
        leaves: list[Future[list[bytes]]] = []
        for data in self._pieces(path, size_bytes):
            leaves.append(thread.submit(piece_leaves, data))
            digests += piece_sha1(data, self._layout.piece_bytes)
            # The other buffer is filled next: its tree must be done with it.
            if len(leaves) == len(self._buffers):
                tree.add(leaves.pop(0).result())
            self._note(len(data))
        for left in leaves:
            tree.add(left.result())
        root, layer = tree.finish()
        return TorrentHashes(bytes(digests), root, layer)

    def _pieces(self, path: Path, size_bytes: int) -> Iterator[memoryview]:
        size = self._layout.piece_bytes
        with beneath.opened(os.open(path, os.O_RDONLY | os.O_NOFOLLOW)) as fd:
            for turn, offset in enumerate(range(0, size_bytes, size)):
                stopping.check(self._stop)
                data = self._buffers[turn % 2][: min(size, size_bytes - offset)]
                if fill(fd, data, offset) != len(data):
                    raise LocalError(f"{path} is shorter than it was: pull its model again")
                yield data

    def _note(self, size_bytes: int) -> None:
        self._done += size_bytes
        self._progress(self._done, self._layout.manifest.size_bytes)
