"""Puts what is asked of a room's origin down to the models that it is asked for.

A request names a key, and a key the hash of what lies there. Whoever moves a model says which
hashes are its own; a file that several models share is put down to the one that was moved last, and
what belongs to none (the registry, what was uploaded for a time) to no model.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterable

from dreamer.daemon.costs.ledger import Ledger
from dreamer.daemon.origin.meter import RequestClass
from dreamer.protocol.cache_limits import LEDGER_KEYS_MAX
from dreamer.protocol.content.manifest import Manifest
from dreamer.protocol.costs import ORIGIN, Entry, What
from dreamer.protocol.ids import Digest, ManifestId, RoomId

_DIGEST = re.compile(r"[0-9a-f]{64}")

_REQUESTS = {"gets": What.GETS, "puts": What.PUTS, "lists": What.LISTS}


class KeyOwners:
    """Which model a key belongs to, as far as it was moved since the start. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._owners: dict[str, ManifestId] = {}

    def concerns(self, manifest_id: ManifestId, manifest: Manifest | None = None) -> None:
        """Note that a model is about to be moved, and of what it is made once that is known."""
        digests: list[bytes] = [manifest_id]
        if manifest is not None:
            digests += [manifest.outboard, *(entry.digest for entry in manifest.files)]
        self.belong(manifest_id, map(Digest, digests))

    def belong(self, manifest_id: ManifestId, digests: Iterable[Digest]) -> None:
        """Note that what has these hashes is moved for a model."""
        with self._lock:
            for digest in digests:
                # Put at the end again: the oldest are forgotten first.
                self._owners.pop(digest.hex(), None)
                self._owners[digest.hex()] = manifest_id
            while len(self._owners) > LEDGER_KEYS_MAX:
                del self._owners[next(iter(self._owners))]

    def knows(self, manifest: Manifest) -> bool:
        """Return whether the keys of a model are known already, by that of its outboard."""
        return manifest.outboard.hex() in self._owners

    def owner(self, where: str) -> ManifestId | None:
        """Return whose a key or a URL's path is."""
        with self._lock:
            return next(
                (self._owners[one] for one in _DIGEST.findall(where) if one in self._owners), None
            )


class OriginMeter:
    """One room's origin (``origin.meter.Meter``)."""

    def __init__(self, ledger: Ledger, room: RoomId, owners: KeyOwners) -> None:
        self._ledger = ledger
        self._room = room
        self._owners = owners

    def requested(self, kind: RequestClass, where: str, up_bytes: int) -> None:
        """Count a request and what is sent with it."""
        if (what := _REQUESTS.get(kind)) is not None:
            self._add(where, what, 1)
        self._add(where, What.UP, up_bytes)

    def received(self, where: str, size_bytes: int) -> None:
        """Count what came of an answer."""
        self._add(where, What.DOWN, size_bytes)

    def _add(self, where: str, what: What, amount: int) -> None:
        if amount:
            self._ledger.add(self._room, self._owners.owner(where), Entry(ORIGIN, what), amount)
