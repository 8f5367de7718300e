"""The names under which libtorrent finds the files of a pull: hard links in a folder of its own.

The store renames a partial file once it is whole; the link goes on to mean it. And whatever
libtorrent renames or removes is the link, never the store's own name for a file.
"""

from __future__ import annotations

import os
from pathlib import Path

from dreamer.daemon.store.download import Download
from dreamer.daemon.store.store import Store
from dreamer.protocol.content.manifest import FileEntry
from dreamer.protocol.content.torrent_layout import TorrentLayout


def link_partials(layout: TorrentLayout, download: Download, folder: Path) -> list[str]:
    """Return libtorrent's paths for the files of a pull, in its order, empty for padding.

    Raises:
        OSError: the file system has no hard links, or the disk said no.
    """
    folder.mkdir()
    names: dict[bytes, str] = {}
    missing = set(download.missing_files())
    for index, entry in enumerate(download.manifest.files):
        if entry.digest not in names:
            names[entry.digest] = _name(index, entry, index in missing, download, folder)
    entries = download.manifest.files
    return ["" if n is None else names[entries[n].digest] for n in layout.client_files]


def _name(index: int, entry: FileEntry, missing: bool, download: Download, folder: Path) -> str:
    if not entry.size_bytes:
        # libtorrent makes an empty file where there is none.
        return str(index)
    if not missing:
        return str(download.stored_path(index))
    first = download.manifest.layout.blocks_of_file(index).start
    os.link(download.target(first).path, folder / str(index), follow_symlinks=False)
    return str(index)


def stored_paths(layout: TorrentLayout, store: Store) -> list[str]:
    """Return libtorrent's paths for a model that is whole: the stored files themselves."""
    entries = layout.manifest.files
    return [
        "" if index is None else str(store.file(entries[index].digest))
        for index in layout.client_files
    ]
