"""Garbage collection at a room's origin: what nobody names goes, however many push meanwhile.

``Collection.run`` decides, its driver does: it yields a command, is sent the answer, and returns a
report in the end. A key goes when it is older than the grace period and named neither by the
registry nor by the lease of a push under way. What makes that safe, step by step:

1. The keys are listed. What is written later is never removed by this collection.
2. The collection leaves its mark (``lease``), then reads the leases, and then the registry: a push
   publishes before it gives its lease up, so it is seen in one of the two, or has yet to begin; and
   one that has yet to begin finds the mark, and when that is gone it checks all it relies on.
3. It removes what is still unnamed, for ``COLLECTION_ROUND_S`` at most: a push need not wait for
   a collector that was killed. Then it takes off the mark, and for the rest begins at 2 again.

Nothing at all is removed by a registry that is older than the one of an earlier collection, or that
can't be read in full, or below a prefix where another room pushes too; and no file while a model
that the room names has no manifest at the origin, for nobody could say which files are its own.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, TypeVar

from dreamer.protocol.content import manifest as manifests
from dreamer.protocol.errors import ConflictError, DreamerError, ForbiddenError
from dreamer.protocol.garbage.commands import (
    AbortUpload,
    Command,
    Deleted,
    DeleteKeys,
    ListKeys,
    ListUploads,
    OpenUpload,
    Pause,
    ReadClock,
    ReadKey,
    ReadManifest,
    ReadNames,
    StoredKey,
    WriteKey,
)
from dreamer.protocol.garbage.kept import Kept
from dreamer.protocol.garbage.keys import (
    Folder,
    OwnKey,
    PushKey,
    RegistryKey,
    collection_key,
    folder_prefix,
    parse_key,
)
from dreamer.protocol.garbage.lease import Lease, Mark, parse_lease, parse_mark
from dreamer.protocol.garbage.names import RoomNames
from dreamer.protocol.garbage.report import Report, Why
from dreamer.protocol.ids import Digest, ManifestId, RoomId, short
from dreamer.protocol.origin import OriginAddress
from dreamer.protocol.origin_limits import (
    COLLECTION_ROUND_S,
    COLLECTION_SETTLE_S,
    COLLECTION_STALE_S,
    GARBAGE_BATCH_KEYS,
    GARBAGE_MAX_KEYS,
    LEASE_TTL_S,
)

T = TypeVar("T")
Asking = Generator[Command, Any, T]
"""Yields commands, is sent their answers, returns a T."""

Described = dict[ManifestId, tuple[Digest, ...]]
"""What each manifest names: its outboard and files. It never changes, so a driver may keep it."""


@dataclass(frozen=True)
class Order:
    """What to collect: of which room, where, as of ``now`` (epoch seconds).

    ``mark_id`` tells this collection from all others. Without ``apply`` nothing is removed and
    nothing written. ``only_expired``: nothing goes but temporary uploads whose time is over, which
    their keys say themselves; no registry is needed for that, and no mark.
    """

    room: RoomId
    address: OriginAddress
    mark_id: bytes
    now: float
    grace_s: float
    apply: bool = False
    only_expired: bool = False


@dataclass(frozen=True)
class _Candidate:
    stored: StoredKey
    own: OwnKey


class Collection:
    """One collection; ``run`` it once. ``described`` is filled with what manifests name."""

    def __init__(self, order: Order, described: Described | None = None) -> None:
        self._order = order
        self._address = order.address
        self._described: Described = {} if described is None else described
        self._report = Report(applied=order.apply)
        self._least_serial = 0
        self._began = 0.0

    def run(self) -> Asking[Report]:
        """Collect.

        Raises:
            ForbiddenError: this registry must not be gone by, or two rooms share the prefix.
            ConflictError: another collection is under way.
            InputError: something there was written by a newer version.
            DreamerError: what the driver raised.
        """
        self._began = yield ReadClock()
        if self._order.only_expired:
            return (yield from self._sweep())
        yield from self._read_mark()
        # Only to have less in memory: what counts is looked up again when all has been listed.
        kept = yield from self._look()
        self._report.undescribed = kept.undescribed
        candidates: deque[_Candidate] = deque()
        for folder in Folder:
            yield from self._list(folder, kept, candidates)
        uploads = yield from self._abandoned(kept, (Folder.FILES, Folder.OBJECTS, Folder.TEMPORARY))
        while self._order.apply and (candidates or uploads):
            left = len(candidates) + len(uploads)
            yield from self._round(candidates, uploads)
            if len(candidates) + len(uploads) == left:
                # So slow an origin, or registry, that a round is over before anything goes.
                self._report.unfinished = True
                break
        return self._report

    def _sweep(self) -> Asking[Report]:
        # Nothing is named: of temporary uploads nobody but themselves has any part.
        kept = Kept(self._order.now, self._order.grace_s)
        candidates: deque[_Candidate] = deque()
        yield from self._list(Folder.TEMPORARY, kept, candidates)
        uploads = yield from self._abandoned(kept, (Folder.TEMPORARY,))
        while self._order.apply and (candidates or uploads):
            yield from self._remove(candidates, kept, math.inf)
            yield from self._abort(uploads, kept)
        return self._report

    # What must stay

    def _look(self) -> Asking[Kept]:
        leased = yield from self._leased()
        names: RoomNames | None = yield ReadNames()
        known = self._checked(names)
        named: set[Digest] = set()
        undescribed: list[ManifestId] = []
        for manifest_id, metadata in known.models.items():
            found = yield from self._describe(manifest_id)
            # A push that is under way says itself what it relies on.
            if found is None and Digest(manifest_id) not in leased:
                undescribed.append(manifest_id)
            named.update((Digest(manifest_id), *(found or ())))
            if metadata is not None:
                named.add(metadata)
        copies = {short(each) for each in (*known.models, *leased)}
        return Kept(
            *(self._order.now, self._order.grace_s, frozenset(named), frozenset(leased)),
            *(frozenset(copies), tuple(undescribed)),
        )

    def _checked(self, names: RoomNames | None) -> RoomNames:
        if names is None or not names.serial:
            raise ForbiddenError(
                "the room has no registry here, so nothing says what is to stay: nothing is "
                "collected; if it had one, restore it"
            )
        if names.unreadable:
            raise ForbiddenError(
                f"the room's registry has parts that can't be read here ({names.unreadable[0]}): "
                "nothing is collected; update Dreamer and collect again"
            )
        if names.serial < self._least_serial:
            raise ForbiddenError(
                f"this copy of the room's registry is old (change {names.serial}; there was a push "
                f"or a collection at change {self._least_serial}): nothing is collected; if it is "
                "no mirror, restore the newest copy"
            )
        self._least_serial = names.serial
        return names

    def _describe(self, manifest_id: ManifestId) -> Asking[tuple[Digest, ...] | None]:
        known = self._described.get(manifest_id)
        if known is None:
            data: bytes | None = yield ReadManifest(Digest(manifest_id))
            if data is None:
                return None
            manifest = manifests.parse(data)
            digests = (manifest.outboard, *(entry.digest for entry in manifest.files))
            known = self._described[manifest_id] = tuple(dict.fromkeys(digests))
        return known

    def _leased(self) -> Asking[set[Digest]]:
        """Return what pushes under way rely on, and note of which registry all pushes knew."""
        leased: set[Digest] = set()
        live_since = self._order.now - LEASE_TTL_S
        while page := (yield from self._page(Folder.PUSHES)):
            for stored in page:
                own = parse_key(self._address, Folder.PUSHES, stored.key)
                if not isinstance(own, PushKey):
                    continue
                self._check_room(own.room)
                found: tuple[bytes, str] | None = yield ReadKey(stored.key)
                lease = parse_lease(found[0]) if found else Lease((), 0)
                self._least_serial = max(self._least_serial, lease.serial)
                if stored.modified_at >= live_since:
                    leased.update(lease.digests)
        return leased

    def _check_room(self, room: RoomId) -> None:
        if room != self._order.room:
            raise ForbiddenError(
                f"room {short(room)} keeps its content at {self._address}, too, and this room's "
                "registry does not name that: nothing is collected; give each room a prefix of its "
                "own"
            )

    # What goes

    def _page(self, folder: Folder) -> Asking[tuple[StoredKey, ...]]:
        page: tuple[StoredKey, ...] = yield ListKeys(folder_prefix(self._address, folder))
        return page

    def _list(self, folder: Folder, kept: Kept, candidates: deque[_Candidate]) -> Asking[None]:
        # The newest lease stays: it tells other rooms' collections that this one pushes here.
        newest: StoredKey | None = None
        while page := (yield from self._page(folder)):
            for stored in page:
                self._report.looked_at.add(stored.size_bytes)
                if folder is not Folder.PUSHES:
                    self._consider(folder, stored, kept, candidates)
                    continue
                older = stored
                if newest is None or stored.modified_at > newest.modified_at:
                    older, newest = newest or stored, stored
                if older is not newest:
                    self._consider(folder, older, kept, candidates)

    def _consider(
        self, folder: Folder, stored: StoredKey, kept: Kept, candidates: deque[_Candidate]
    ) -> None:
        own = parse_key(self._address, folder, stored.key)
        if own is None:
            self._report.alien(stored.key)
            return
        if isinstance(own, PushKey | RegistryKey):
            self._check_room(own.room)
        why = kept.why(stored, own, self._report)
        if why is None:
            return
        if len(candidates) >= GARBAGE_MAX_KEYS:
            self._report.unfinished = True
            return
        candidates.append(_Candidate(stored, own))
        self._report.found(why, stored.size_bytes)

    def _abandoned(self, kept: Kept, folders: tuple[Folder, ...]) -> Asking[deque[OpenUpload]]:
        found: deque[OpenUpload] = deque()
        for folder in folders:
            uploads: tuple[OpenUpload, ...] = yield ListUploads(
                folder_prefix(self._address, folder)
            )
            for upload in uploads:
                own = parse_key(self._address, folder, upload.key)
                if own is not None and kept.abandons(upload, own):
                    found.append(upload)
                    self._report.found(Why.ABANDONED, 0)
        return found

    # Removing it

    def _round(self, candidates: deque[_Candidate], uploads: deque[OpenUpload]) -> Asking[None]:
        began: float = yield ReadClock()
        etag = yield from self._open_mark()
        try:
            kept = yield from self._look()
            while candidates or uploads:
                now: float = yield ReadClock()
                if now >= began + COLLECTION_ROUND_S:
                    break
                yield from self._remove(candidates, kept, began + COLLECTION_ROUND_S)
                yield from self._abort(uploads, kept)
        except DreamerError:
            yield from self._close_mark(etag)
            raise
        yield from self._close_mark(etag)

    def _remove(self, candidates: deque[_Candidate], kept: Kept, until: float) -> Asking[None]:
        batch: dict[str, _Candidate] = {}
        while candidates and len(batch) < GARBAGE_BATCH_KEYS:
            one = candidates.popleft()
            # Judged anew: a push or a change of the registry may have named it since.
            if kept.why(one.stored, one.own, Report()) is not None:
                batch[one.stored.key] = one
        if not batch:
            return
        deleted: Deleted = yield DeleteKeys(tuple(batch), until)
        for key, one in batch.items():
            if key in deleted.removed:
                self._report.removed.add(one.stored.size_bytes)
            elif key in deleted.failed:
                self._report.failed.append(key)
            else:
                candidates.append(one)

    def _abort(self, uploads: deque[OpenUpload], kept: Kept) -> Asking[None]:
        if not uploads:
            return
        upload = uploads.popleft()
        own = _content_of(self._address, upload.key)
        if own is None or not kept.abandons(upload, own):
            return
        done: bool = yield AbortUpload(upload)
        if done:
            self._report.removed.add(0)
        else:
            self._report.failed.append(upload.key)

    # The mark

    def _read_mark(self) -> Asking[tuple[Mark, str] | None]:
        found: tuple[bytes, str] | None = yield ReadKey(collection_key(self._address))
        if found is None:
            return None
        mark = parse_mark(found[0])
        self._check_room(mark.room)
        self._least_serial = max(self._least_serial, mark.serial)
        now = yield from self._now()
        under_way = mark.open and mark.at + COLLECTION_STALE_S > now
        if under_way and self._order.apply:
            raise ConflictError(
                "another collection of this room is under way: wait for its end (one that was "
                f"killed is passed over after {COLLECTION_STALE_S / 60:.0f} minutes)"
            )
        return mark, found[1]

    def _open_mark(self) -> Asking[str]:
        found = yield from self._read_mark()
        mark = yield from self._mark(opened=True)
        key = collection_key(self._address)
        etag: str | None = yield WriteKey(key, mark.encode(), found[1] if found else None)
        # For stores that write whatever the condition was: who wrote last collects, and whoever
        # found no mark before that has written by now (Fischer's mutual exclusion).
        yield Pause(COLLECTION_SETTLE_S)
        seen: tuple[bytes, str] | None = yield ReadKey(key)
        if etag is None or seen is None or seen[0] != mark.encode():
            raise ConflictError("another collection of this room has just begun: wait for its end")
        return seen[1]

    def _close_mark(self, etag: str) -> Asking[None]:
        mark = yield from self._mark(opened=False)
        yield WriteKey(collection_key(self._address), mark.encode(), etag)

    def _mark(self, opened: bool) -> Asking[Mark]:
        now = yield from self._now()
        return Mark(self._order.room, self._order.mark_id, now, self._least_serial, opened)

    def _now(self) -> Asking[float]:
        """Return the time in epoch seconds: a listing may have taken hours."""
        clock: float = yield ReadClock()
        return self._order.now + clock - self._began


def _content_of(address: OriginAddress, key: str) -> OwnKey | None:
    found = (parse_key(address, folder, key) for folder in Folder)
    return next((own for own in found if own is not None), None)
