"""Manifests and outboards: small, named by their hash, checked whenever written or read.

Other daemons may add and remove objects of the same store. What is remembered here is only which of
them are manifests; the directory itself is looked at whenever all of them are asked for.
"""

from __future__ import annotations

import logging
import os
import threading

from blake3 import blake3

from dreamer.daemon.store import beneath, fresh, space
from dreamer.daemon.store.copying import write_all
from dreamer.daemon.store.places import Places
from dreamer.protocol.content import manifest as manifests
from dreamer.protocol.content import outboard as outboards
from dreamer.protocol.content.manifest import Manifest
from dreamer.protocol.content.outboard import Outboard
from dreamer.protocol.errors import ManifestError
from dreamer.protocol.ids import DIGEST_BYTES, Digest, ManifestId, short
from dreamer.protocol.limits import STORE_OBJECT_MAX_BYTES

_log = logging.getLogger(__name__)

# Canonical JSON sorts its keys, so every manifest begins so.
_MANIFEST_BEGINS = b'{"blocks":'


class Objects:
    """The objects of a store, and the manifests among them."""

    def __init__(self, places: Places) -> None:
        self._places = places
        self._lock = threading.Lock()
        self._manifests: dict[ManifestId, Manifest] = {}
        # Outboards and what else is no manifest: never opened again to find that out.
        self._others: set[Digest] = set()
        # What is held is read from the disk, not from a database that may be lost.
        self._look()

    def digests(self) -> list[Digest]:
        """Return what there is on disk at this moment, by hash."""
        names = sorted(path.name for path in self._places.objects.iterdir())
        return [Digest(bytes.fromhex(name)) for name in names if len(name) == 2 * DIGEST_BYTES]

    def _look(self) -> None:
        """Notice what other processes have added and removed."""
        there = {bytes(digest): digest for digest in self.digests()}
        with self._lock:
            for gone in [name for name in self._manifests if name not in there]:
                del self._manifests[gone]
            self._others.intersection_update(there.values())
            known: set[bytes] = {*self._manifests, *self._others}
        for name, digest in there.items():
            if name not in known:
                self._index(digest)

    def _index(self, digest: Digest) -> None:
        try:
            with self._places.object(digest).open("rb") as file:
                beginning = file.read(len(_MANIFEST_BEGINS))
        except FileNotFoundError:
            return
        if beginning == _MANIFEST_BEGINS:
            self._remember(digest, self.get(digest) or b"")
        else:
            with self._lock:
                self._others.add(digest)

    def _remember(self, digest: Digest, data: bytes) -> None:
        # Outboards are megabytes of noise; none of them is parsed in vain.
        if not data.startswith(_MANIFEST_BEGINS):
            return
        try:
            manifest = manifests.parse(data)
        # A later version of the format perhaps; the object stays for who can read it.
        except ManifestError as error:
            _log.warning("object %s is not a manifest known here: %s", digest.hex(), error)
            with self._lock:
                self._others.add(digest)
            return
        with self._lock:
            self._manifests[ManifestId(digest)] = manifest

    def has(self, digest: Digest) -> bool:
        """Say whether an object is there; its bytes are only checked when read."""
        return (self._places.objects / digest.hex()).is_file()

    def put(self, digest: Digest, data: bytes) -> None:
        """Keep an object.

        Raises:
            ManifestError: the bytes are not those that ``digest`` names, or are too many.
            OSError: the disk said no.
        """
        if len(data) > STORE_OBJECT_MAX_BYTES:
            raise ManifestError(f"an object of {len(data)} bytes, over {STORE_OBJECT_MAX_BYTES}")
        # Objects come from strangers too.
        if blake3(data).digest() != digest:
            raise ManifestError(f"the bytes of object {short(digest)} are not those it names")
        self._write(digest, data)
        self._remember(digest, data)

    def _write(self, digest: Digest, data: bytes) -> None:
        # Written aside and renamed: an object is there whole or not at all.
        staged = self._places.new_staging()
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW
        try:
            with beneath.opened(os.open(staged, flags, 0o644)) as fd:
                write_all(fd, data, 0)
                os.fsync(fd)
            staged.rename(self._places.objects / digest.hex())
        finally:
            staged.unlink(missing_ok=True)

    def get(self, digest: Digest) -> bytes | None:
        """Return an object, or None if it isn't there or its bytes have gone bad."""
        path = self._places.objects / digest.hex()
        try:
            with path.open("rb") as file:
                data = file.read(STORE_OBJECT_MAX_BYTES + 1)
        except FileNotFoundError:
            return None
        if blake3(data).digest() != digest:
            _log.error("object %s is damaged on disk: removed, to be fetched again", digest.hex())
            # Left in place, it would be taken for present and never fetched again.
            self.remove(digest)
            return None
        return data

    def remove(self, digest: Digest) -> int:
        """Remove an object if it is there; return its bytes."""
        path = self._places.objects / digest.hex()
        with self._lock:
            self._manifests.pop(ManifestId(digest), None)
        try:
            size_bytes = path.stat().st_size
            path.unlink()
        except FileNotFoundError:
            return 0
        return size_bytes

    def allocated_bytes(self, digest: Digest) -> int:
        """Return the room that an object takes on the disk."""
        try:
            return space.allocated_bytes(self._places.object(digest).lstat())
        except FileNotFoundError:
            return 0

    def manifest(self, manifest_id: ManifestId) -> Manifest | None:
        """Return a manifest, if it is there."""
        with self._lock:
            found = self._manifests.get(manifest_id)
        if found is None:
            # Another daemon may have put it here.
            self._index(Digest(manifest_id))
            with self._lock:
                found = self._manifests.get(manifest_id)
        return found

    def manifests(self, *, settled: bool = False) -> dict[ManifestId, Manifest]:
        """Return all manifests there are, whether their content is there or not.

        ``settled``: what this host's memory of the volume would not show yet, too; for whoever
        is going to remove what no manifest names.
        """
        if settled:
            fresh.look(self._places.objects)
        self._look()
        with self._lock:
            return dict(self._manifests)

    def outboard(self, manifest: Manifest) -> Outboard | None:
        """Return the outboard that a manifest names, if it is there.

        Raises:
            ManifestError: what it names is no outboard for its files.
        """
        data = self.get(manifest.outboard)
        if data is None:
            return None
        return outboards.parse(data, manifest.block_count, manifest.outboard)
