"""Sending a model to the origin: only what isn't there, in parallel, the manifest last.

Whoever finds the manifest in the bucket finds the files too. Text goes as zstd where that saves a
tenth (``encoding.py``); what was begun earlier is taken up (``multipart.py``).
"""

from __future__ import annotations

import hashlib
import shutil
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from dreamer.daemon.origin.encoding import encode, worth_encoding
from dreamer.daemon.origin.forms import Forms
from dreamer.daemon.origin.multipart import Multipart, Sending, all_of, parts_of, read_part
from dreamer.daemon.origin.tally import UploadReport
from dreamer.daemon.store import space
from dreamer.daemon.store.store import Store
from dreamer.protocol.content.manifest import FileEntry, Manifest
from dreamer.protocol.errors import LocalError
from dreamer.protocol.ids import Digest, ManifestId, short
from dreamer.protocol.limits import ORIGIN_MULTIPART_OVER_BYTES, ORIGIN_PARALLEL_REQUESTS
from dreamer.protocol.origin import OriginAddress
from dreamer.protocol.origin_limits import ORIGIN_ENCODE_MAX_RATIO


@dataclass(frozen=True)
class _Item:
    """A file to be sent, in the form in which it is sent."""

    key: str
    path: Path
    size_bytes: int

    @property
    def is_large(self) -> bool:
        return self.size_bytes > ORIGIN_MULTIPART_OVER_BYTES


class Upload:
    """One model on its way to the origin; ``run`` once. Raises OriginError, StoppedError.

    ``encoded``: text may be sent as zstd; not where others are to read it by name.
    """

    def __init__(
        self,
        sending: Sending,
        address: OriginAddress,
        forms: Forms,
        store: Store,
        *,
        encoded: bool = True,
    ) -> None:
        self._sending = sending
        self._bucket = sending.bucket
        self._tally = sending.tally
        self._address = address
        self._forms = forms
        self._store = store
        self._encoded = encoded

    def run(
        self, manifest_id: ManifestId, manifest: Manifest, metadata: Digest | None = None
    ) -> UploadReport:
        """Send what the origin lacks of the model.

        Raises:
            LocalError: the store does not hold the whole model.
        """
        # What is damaged here must not spread.
        if not self._store.complete(manifest, self._sending.stop):
            raise LocalError(f"{short(manifest_id)} is not whole here: pull it again first")
        # The manifest very last.
        named = [metadata, manifest.outboard, Digest(manifest_id)]
        objects = {digest: self._object(digest) for digest in named if digest is not None}
        files = list({entry.digest: entry for entry in manifest.files}.values())
        for entry in files:
            self._want(self._address.file_key(entry.digest), entry.size_bytes)
        for digest, data in objects.items():
            self._want(self._address.object_key(digest), len(data))
        lease = self._sending.lease
        if lease is not None:
            lease.hold((*(entry.digest for entry in files), *objects))
        self._bring(files, objects)
        if lease is not None and lease.settle():
            # Garbage was collected meanwhile by somebody who did not know of us.
            self._bring([entry for entry in files if self._is_gone(entry)], objects)
        return self._tally.report

    def _is_gone(self, entry: FileEntry) -> bool:
        keys = (self._address.file_key(entry.digest), self._address.encoded_key(entry.digest))
        sizes = [self._sending.call(partial(self._bucket.size, key)) for key in keys]
        if sizes[0] == entry.size_bytes or (self._encoded and sizes[1] is not None):
            return False
        self._forms.forget(entry.digest)
        return True

    def _bring(self, files: list[FileEntry], objects: dict[Digest, bytes]) -> None:
        """Look what is there, and send what is not; a second time only looks."""
        folder = self._store.new_folder()
        try:
            self._send_files(files, folder)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        # After everything that they name.
        for digest, data in objects.items():
            self._send_object(digest, data)

    def _want(self, key: str, size_bytes: int) -> None:
        self._tally.want(key, _lengths(size_bytes))

    def _send_files(self, files: list[FileEntry], folder: Path) -> None:
        with ThreadPoolExecutor(ORIGIN_PARALLEL_REQUESTS, "dreamer-upload") as pool:
            lacking = [entry for entry in all_of(pool, self._lacks, files) if entry]
            items = all_of(pool, lambda entry: self._item(entry, folder), lacking)
            all_of(pool, self._send_small, [item for item in items if not item.is_large])
            # One after the other, for the parts of one fill the pool.
            for item in items:
                if item.is_large:
                    Multipart(self._sending, pool, item.key, item.path, item.size_bytes).run()

    def _object(self, digest: Digest) -> bytes:
        data = self._store.get_object(digest)
        if data is None:
            raise LocalError(f"object {short(digest)} is missing from the store: push again")
        return data

    def _has(self, key: str, size_bytes: int) -> bool:
        if self._sending.call(lambda: self._bucket.size(key)) != size_bytes:
            return False
        self._tally.whole(key)
        return True

    def _lacks(self, entry: FileEntry) -> FileEntry | None:
        key = self._address.file_key(entry.digest)
        if self._has(key, entry.size_bytes):
            return None
        if not self._encoded:
            return entry
        size = self._forms.encoded_bytes(entry, self._sending.stop)
        if size is None:
            return entry
        encoded = self._address.encoded_key(entry.digest)
        self._tally.instead(key, encoded, _lengths(size), 0)
        self._tally.whole(encoded)
        return None

    def _item(self, entry: FileEntry, folder: Path) -> _Item:
        """Return a file in the form that is smaller by a tenth, if there is one."""
        plain = _Item(
            self._address.file_key(entry.digest), self._store.file(entry.digest), entry.size_bytes
        )
        # Without room for the other form it just goes as it is.
        if not (
            self._encoded
            and worth_encoding(plain.path, plain.size_bytes)
            and space.fits(plain.size_bytes, folder.parent)
        ):
            return plain
        folder.mkdir(exist_ok=True)
        target = folder / entry.digest.hex()
        with space.explained(folder):
            size = encode(plain.path, plain.size_bytes, target, self._sending.stop)
        # Of a file that only begins as text, the sample tells too little.
        if size > ORIGIN_ENCODE_MAX_RATIO * plain.size_bytes:
            target.unlink()
            return plain
        item = _Item(self._address.encoded_key(entry.digest), target, size)
        self._tally.instead(plain.key, item.key, _lengths(size), plain.size_bytes - size)
        return item

    def _send_object(self, digest: Digest, data: bytes) -> None:
        key = self._address.object_key(digest)
        if not self._has(key, len(data)):
            self._put(key, data)

    def _send_small(self, item: _Item) -> None:
        self._put(item.key, read_part(item.path, 0, item.size_bytes))

    def _put(self, key: str, data: bytes) -> None:
        self._sending.checks.run(
            lambda by: self._sending.call(lambda: self._bucket.put(key, data, by)),
            hashlib.md5(data, usedforsecurity=False).hexdigest(),
        )
        self._tally.part(key, 1, len(data), sent=True)


def _lengths(size_bytes: int) -> list[int]:
    """Return the parts that something is sent in; one for all that is small, even if empty."""
    if size_bytes <= ORIGIN_MULTIPART_OVER_BYTES:
        return [size_bytes]
    return [part.length for part in parts_of(size_bytes)]
