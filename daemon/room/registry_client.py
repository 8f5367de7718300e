"""Reads and changes a room's registry in whatever store keeps it, losing nobody's change.

Read, verify, apply, write on the condition that nobody wrote meanwhile; on a conflict, again.
Nor is anything lost that somebody drops from the document: who has seen it puts it back.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from random import Random
from typing import Protocol, TypeVar

from dreamer.daemon.room.contention import Contention
from dreamer.protocol.errors import (
    ConflictError,
    ForbiddenError,
    InputError,
    LocalError,
    RemoteError,
    StaleError,
)
from dreamer.protocol.ids import NodeId, RoomId, short
from dreamer.protocol.registry.availability import NodeReport
from dreamer.protocol.registry.changes import Author, Change, ReportNode, apply
from dreamer.protocol.registry.document import Chain, Document, parse
from dreamer.protocol.registry.merge import merge
from dreamer.protocol.registry.records import Record
from dreamer.protocol.registry.reports import Fault
from dreamer.protocol.registry.standing import VerifyMember
from dreamer.protocol.registry.vanished import keep_vanished
from dreamer.protocol.registry.verify import accept_newer, verify
from dreamer.protocol.registry.view import Verified
from dreamer.protocol.registry_limits import (
    REGISTRY_CAS_ATTEMPTS,
    REGISTRY_MEND_SPREAD_S,
)

log = logging.getLogger(__name__)

T = TypeVar("T")

Deliver = Callable[[Record[NodeReport], Chain], Awaitable[bool]]
"""Has somebody who may write enter a report (``ReportCourier.deliver``)."""

UNSTORED = "unstored"
"""The ETag of what no store holds yet."""


class DocumentStore(Protocol):
    """Where one room's document is kept: the tracker, or an object in a bucket."""

    async def read(self) -> tuple[bytes, str] | None:
        """Return the document and its version's ETag, or None when there is none yet."""
        ...

    async def write(self, data: bytes, etag: str | None, /) -> str:
        """Write if the stored version is still ``etag`` (None: still absent); return the new one.

        Raises:
            ConflictError: somebody else wrote first.
        """
        ...


class RegistryClient:
    """One room's registry, as this node reads and changes it.

    ``seen`` is the newest document that this node knew before it started, so that an older one is
    refused after a restart too; ``keep`` is told of each newer one and its ETag, in a thread.
    ``writes`` says whether this node's roles let it change the document; ``deliver`` takes the
    reports of a node that may not.
    """

    def __init__(
        self,
        room: RoomId,
        store: DocumentStore,
        author: Author,
        verify_member: VerifyMember,
        *,
        seen: Document | None = None,
        keep: Callable[[bytes, str], None] = lambda data, etag: None,
        writes: bool = True,
        deliver: Deliver | None = None,
        clock: Callable[[], float] = time.time,
        rng: Random | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._room = room
        self._store = store
        self._author = author
        self._verify_member = verify_member
        self._keep = keep
        self._writes = writes
        self._deliver = deliver
        self._newest = seen or Document(room)
        self.size_bytes = 0
        """Of the document that was read or written last."""
        # What is believed of the newest document; None until it is judged, and judged anew.
        self._judged: Verified | None = None
        self._etag: str | None = None
        self._doubts = 0
        # Whether the newest document has something that the one in the store no longer has.
        self._unstored = False
        self._clock = clock
        # One call at a time: a slow read must not look like a store that went back in time.
        self._lock = asyncio.Lock()
        # By chance, but not for secrecy: it spreads retries.
        self._rng = rng or Random()  # noqa: S311
        self._contention = Contention(self._rng)
        self._sleep = sleep

    async def refresh(self) -> Verified:
        """Read and verify the document; what is known to be unchanged is not verified again.

        Raises:
            RemoteError: the store can't be reached.
            ForbiddenError: the store returned an older document than one seen before.
            InputError: what it returned is not this room's document.
        """
        async with self._lock:
            stored = await self._store.read()
            return await self._take(*(stored or (None, None)))

    async def reach(self) -> None:
        """Make sure that the store answers; whatever it holds, a change can be made then.

        Raises:
            RemoteError: it can't be reached.
        """
        async with self._lock:
            await self._store.read()

    async def recall(self) -> Verified | None:
        """Return the newest document known without asking the store; None if none ever was."""
        return await self._judge_newest() if self._newest.serial else None

    @property
    def known(self) -> Verified | None:
        """What is believed of the newest document, this node's own changes included.

        None until it is judged, or while it is to be judged anew.
        """
        return self._judged

    def doubt(self) -> None:
        """Judge anew whom to believe, at the next call: a membership has ended."""
        self._doubts += 1
        self._judged = self._etag = None

    async def change(self, *changes: Change) -> Verified:
        """Make ``changes`` together, as one, on top of whatever others have written.

        What the store holds may be unusable: no document, or one older than was seen here. The
        newest document seen takes its place then, so that nobody who may write can end the
        writing for all. A later format of documents needs another place for the same reason.

        Raises:
            ConflictError: others wrote first at every attempt.
            StaleError: what a change was decided upon is no longer so.
            NoMatchError: a change is about something that the room does not have.
        """
        return await self._in_turn(lambda: self._try(changes))

    async def mend(self) -> None:
        """Put back what has vanished from the document, if this node may write it.

        Raises:
            DreamerError: it can't be done now.
        """
        if not self._unstored or not self._writes:
            return
        await self._sleep(self._rng.uniform(0, REGISTRY_MEND_SPREAD_S))
        await self.change()

    async def report(self, said: NodeReport) -> None:
        """Have the registry say what this node has and has moved, whatever its role.

        Raises:
            ForbiddenError: this node is not allowed to, in any way.
            RemoteError: it can't be done now.
            ConflictError: others wrote first at every attempt.
        """
        if self._deliver is None or not await self._hand_in(said, self._deliver):
            await self.change(ReportNode(said))

    async def _hand_in(self, said: NodeReport, deliver: Deliver) -> bool:
        try:
            base = await self.refresh()
        except ForbiddenError as error:
            # The store is refused, not this node: a mirror that lags catches up, and a document
            # that was set back is put right by those who write.
            raise RemoteError(str(error)) from error
        if not base.document.serial:
            raise RemoteError(f"room {short(self._room)} has no registry to report to yet")
        changes = (ReportNode(said),)
        made = await asyncio.to_thread(apply, base, changes, self._author, self._clock())
        if made is base.document:
            return True
        record = made.reports.get(NodeId(self._author.key.public))
        if record is None:
            raise RemoteError(f"the registry of room {short(self._room)} is full")
        return await deliver(record, self._author.chain)

    async def learn(self, data: bytes) -> bool:
        """Add what another member's copy of the document has newer; return whether it had any.

        Where the store can't be reached it is known here only, until the store has it, too.

        Raises:
            InputError: it is not this room's document, or the room's is full.
            ForbiddenError: with it, less would be believed than before.
            ConflictError: others wrote first at every attempt.
        """
        theirs = await asyncio.to_thread(parse, data, self._room)
        return await self._in_turn(lambda: self._learn(theirs))

    async def _in_turn(self, attempt: Callable[[], Awaitable[T]]) -> T:
        """Try until nobody else is first; the writers of a room come to take turns."""
        steady = asyncio.get_running_loop().time
        async with self._lock:
            if (pause_s := self._contention.courtesy_s(steady())) > 0:
                await self._sleep(pause_s)
            for _ in range(REGISTRY_CAS_ATTEMPTS):
                try:
                    done = await attempt()
                except StaleError:
                    # A conflict with what was decided, not with who wrote: no reading mends it.
                    raise
                except ConflictError:
                    await self._sleep(self._contention.lost())
                else:
                    self._contention.won(steady())
                    return done
        raise ConflictError(
            f"room {short(self._room)} is being changed by many at once: nothing was changed by "
            "this command; run it again"
        )

    async def _learn(self, theirs: Document) -> bool:
        try:
            data, etag = await self._store.read() or (None, None)
            base = (await self._take(data, etag)).document
        except RemoteError:
            base, etag = self._newest, UNSTORED
        merged = await asyncio.to_thread(merge, base, theirs, self._verify_member, self._clock())
        if merged is base:
            return False
        # Before it is written: what this node itself would refuse as old must never be stored.
        found = await asyncio.to_thread(verify, merged, self._verify_member, self._clock())
        accept_newer(await self._judge_newest(), found)
        encoded = await asyncio.to_thread(merged.encode)
        written = etag if etag == UNSTORED else await self._store.write(encoded, etag)
        await self._accept(merged, encoded, written, ours=True)
        return True

    async def _try(self, changes: tuple[Change, ...]) -> Verified:
        data, etag = await self._store.read() or (None, None)
        usable = True
        try:
            base = await self._take(data, etag)
        except (InputError, ForbiddenError) as error:
            usable = False
            log.warning("putting back the registry of room %s: %s", short(self._room), error)
            base = await self._newest_with(data)
        document = await asyncio.to_thread(apply, base, changes, self._author, self._clock())
        if document is base.document and usable and not self._unstored:
            return base
        encoded = await asyncio.to_thread(document.encode)
        written = await self._store.write(encoded, etag)
        return await self._accept(document, encoded, written, ours=True)

    async def _newest_with(self, data: bytes | None) -> Verified:
        """Return the newest document seen, with what the store's unusable one adds to it."""
        # Ours may come from a member (``learn``), and others have changed the store's since.
        try:
            theirs = await asyncio.to_thread(parse, data or b"", self._room)
        except InputError:
            return await self._judge_newest()
        now, newest = self._clock(), self._newest
        merged = await asyncio.to_thread(merge, newest, theirs, self._verify_member, now)
        return await asyncio.to_thread(verify, merged, self._verify_member, now)

    async def _take(self, data: bytes | None, etag: str | None) -> Verified:
        """Believe what the store returned, if it can be."""
        if data is None:
            return await self._accept(Document(self._room), None, None)
        if self._judged is not None and etag == self._etag:
            return await self._judge_newest()
        return await self._accept(await asyncio.to_thread(parse, data, self._room), data, etag)

    async def _accept(
        self, document: Document, data: bytes | None, etag: str | None, *, ours: bool = False
    ) -> Verified:
        """Take a document for the newest: one that this node wrote (``ours``), or found."""
        doubts = self._doubts
        found = await asyncio.to_thread(verify, document, self._verify_member, self._clock())
        if self._judged is None or found.serial < self._judged.serial:
            # Before the store is accused, both are judged by the memberships known today: a
            # revocation since then takes the revoked member's changes out of either.
            self._judged = None
            newest = await self._judge_newest()
            # Whoever drops the last record makes it an older document: that is put back alike.
            self._unstored = found.serial < newest.serial
            accept_newer(newest, found)
        if ours or data is None:
            self._unstored = False
        else:
            found, data = await self._with_vanished(found, data)
        self._newest = found.document
        self._judged = found if doubts == self._doubts else None
        # What is too early to be believed now may be believed later.
        early = any(report.fault is Fault.FROM_THE_FUTURE for report in found.reports)
        self._etag = None if early else etag
        if data is not None and etag is not None:
            self.size_bytes = len(data)
            await self._keep_copy(data, etag)
        return found

    async def _with_vanished(self, found: Verified, data: bytes) -> tuple[Verified, bytes]:
        """Return what was found in the store with what somebody dropped from it, and its bytes."""
        before = await self._judge_newest()
        kept = await asyncio.to_thread(
            keep_vanished, before, found, self._verify_member, self._clock()
        )
        self._unstored = False
        if kept is found:
            return found, data
        try:
            encoded = await asyncio.to_thread(kept.document.encode)
        except InputError as error:
            log.warning("room %s lost what can't be put back: %s", short(self._room), error)
            return found, data
        self._unstored = True
        return kept, encoded

    async def _keep_copy(self, data: bytes, etag: str) -> None:
        try:
            await asyncio.to_thread(self._keep, data, etag)
        except LocalError as error:
            # What was read or written counts all the same.
            log.error("no copy of the registry of room %s was kept: %s", short(self._room), error)

    async def _judge_newest(self) -> Verified:
        if self._judged is not None:
            # A model may have expired since, though nobody changed anything.
            self._judged = self._judged.as_of(self._clock())
            return self._judged
        doubts, newest = self._doubts, self._newest
        found = await asyncio.to_thread(verify, newest, self._verify_member, self._clock())
        if doubts == self._doubts and newest is self._newest:
            self._judged = found
        return found
