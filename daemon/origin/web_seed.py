"""An origin as a web seed (BEP 19): a public model's files by name, beside those named by hash.

Torrent clients ask for ``URL/TORRENT-NAME/PATH``. The copies are made inside the store, so no byte
of the model is sent a second time; they do take room a second time.
"""

from __future__ import annotations

import threading
from functools import partial

from dreamer.daemon.origin.port import BucketPort
from dreamer.daemon.origin.retry import Retry
from dreamer.daemon.store import stopping
from dreamer.protocol.content.torrent_layout import PAD_DIRECTORY, TorrentLayout
from dreamer.protocol.limits import WEB_SEED_PADDING_MAX_BYTES
from dreamer.protocol.origin import OriginAddress


class NamedCopies:
    """Puts the files of public models where a torrent client looks for them."""

    def __init__(self, bucket: BucketPort, address: OriginAddress, retry: Retry) -> None:
        self._bucket = bucket
        self._address = address
        self._retry = retry

    def make(self, layout: TorrentLayout, stop: threading.Event) -> None:
        """Copy what isn't there yet; the model itself was uploaded before.

        Raises:
            OriginError: the store refused, or failed.
            StoppedError: ``stop`` was set; what was copied stays.
        """
        for entry in layout.manifest.files:
            stopping.check(stop)
            target = self._address.named_key(layout.name, entry.path)
            if self._size(target, stop) != entry.size_bytes:
                source = self._address.file_key(entry.digest)
                self._retry.run(partial(self._bucket.copy, source, target), stop)
        self._put_padding(layout, stop)

    def _put_padding(self, layout: TorrentLayout, stop: threading.Event) -> None:
        # Some clients (aria2) fetch padding too, zeros though it is. A model of thousands of small
        # files would have gigabytes of it: for those clients the other peers have to do.
        sizes = sorted({file.pad_bytes for file in layout.files if file.pad_bytes})
        if sum(sizes) > WEB_SEED_PADDING_MAX_BYTES:
            return
        for size in sizes:
            stopping.check(stop)
            key = self._address.named_key(layout.name, f"{PAD_DIRECTORY}/{size}")
            if self._size(key, stop) != size:
                self._retry.run(partial(self._bucket.put, key, bytes(size)), stop)

    def _size(self, key: str, stop: threading.Event) -> int | None:
        return self._retry.run(partial(self._bucket.size, key), stop)
