"""Reads and changes a room's registry in whatever store keeps it, losing nobody's change.

Read, verify, apply, write on the condition that nobody wrote meanwhile; on a conflict, again.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from random import Random
from typing import Protocol

from dreamer.protocol.errors import ConflictError
from dreamer.protocol.ids import RoomId, short
from dreamer.protocol.limits import (
    REGISTRY_CAS_ATTEMPTS,
    REGISTRY_RETRY_BASE_S,
    REGISTRY_RETRY_MAX_S,
)
from dreamer.protocol.registry.changes import Author, Change, apply
from dreamer.protocol.registry.document import Document, parse
from dreamer.protocol.registry.standing import VerifyMember
from dreamer.protocol.registry.verify import accept_newer, verify
from dreamer.protocol.registry.view import Verified


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
    refused after a restart too. ``verified`` is the newest one read since, None before the first.
    """

    def __init__(
        self,
        room: RoomId,
        store: DocumentStore,
        author: Author,
        verify_member: VerifyMember,
        *,
        seen: Document | None = None,
        clock: Callable[[], float] = time.time,
        rng: Random | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._room = room
        self._store = store
        self._author = author
        self._verify_member = verify_member
        self._seen = seen or Document(room)
        self._newest: Verified | None = None
        self._clock = clock
        # One call at a time: a slow read must not look like a store that went back in time.
        self._lock = asyncio.Lock()
        self._rng = rng or Random()  # noqa: S311 - it spreads retries, it guards nothing
        self._sleep = sleep
        self.verified: Verified | None = None

    async def refresh(self) -> Verified:
        """Read and verify the document.

        Raises:
            RemoteError: the store can't be reached.
            ForbiddenError: the store returned an older document than one seen before.
            InputError: what it returned is not this room's document.
        """
        async with self._lock:
            verified, _ = await self._read()
        return verified

    async def recall(self) -> Verified | None:
        """Return the newest document known without asking the store; None if none ever was."""
        if self.verified is not None or not self._seen.serial:
            return self.verified
        return await asyncio.to_thread(verify, self._seen, self._verify_member, self._clock())

    async def change(self, *changes: Change) -> Verified:
        """Make ``changes`` together, as one, on top of whatever others have written.

        Raises:
            ConflictError: others wrote first at every attempt.
            NoMatchError: a change is about something that the room does not have.
        """
        async with self._lock:
            for attempt in range(REGISTRY_CAS_ATTEMPTS):
                try:
                    return await self._try(changes)
                except ConflictError:
                    await self._sleep(self._pause_s(attempt))
        raise ConflictError(
            f"room {short(self._room)} is being changed by many at once: nothing was changed by "
            "this command; run it again"
        )

    async def _try(self, changes: tuple[Change, ...]) -> Verified:
        verified, etag = await self._read()
        document = await asyncio.to_thread(apply, verified, changes, self._author, self._clock())
        if document is verified.document:
            return verified
        await self._store.write(await asyncio.to_thread(document.encode), etag)
        return await self._accept(document)

    async def _read(self) -> tuple[Verified, str | None]:
        stored = await self._store.read()
        if stored is None:
            return await self._accept(Document(self._room)), None
        data, etag = stored
        return await self._accept(await asyncio.to_thread(parse, data, self._room)), etag

    async def _accept(self, document: Document) -> Verified:
        self.verified = await asyncio.to_thread(self._judge, document)
        return self.verified

    def _judge(self, document: Document) -> Verified:
        now = self._clock()
        new = verify(document, self._verify_member, now)
        if self._newest is None or new.serial < self._newest.serial:
            # Before the store is accused, both are judged by the memberships known today: a
            # revocation since then takes the revoked member's changes out of either.
            self._newest = verify(self._seen, self._verify_member, now)
        self._newest = accept_newer(self._newest, new)
        self._seen = document
        return new

    def _pause_s(self, attempt: int) -> float:
        ceiling = min(REGISTRY_RETRY_MAX_S, REGISTRY_RETRY_BASE_S * 2**attempt)
        return self._rng.uniform(0, ceiling)
