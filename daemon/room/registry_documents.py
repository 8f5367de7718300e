"""Where a room's registry is kept: at its first tracker, with copies at the others.

One place decides the order of all changes, so only the first is ever written to by those who change
something. The others hold mirrors: whoever may publish brings them what is newer, and never what is
older. A mirror is read while the first tracker is away, or has lost its copy.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from random import Random
from typing import TypeVar

from dreamer.daemon.rendezvous.services import TrackerBusyError
from dreamer.daemon.rendezvous.session import TrackerSession
from dreamer.daemon.tasks import TaskSet
from dreamer.protocol.errors import ConflictError, DreamerError, InputError, RemoteError
from dreamer.protocol.registry.document import parse
from dreamer.protocol.registry_limits import (
    REGISTRY_BUSY_ATTEMPTS,
    REGISTRY_BUSY_PAUSE_S,
    REGISTRY_FIRST_WAIT_S,
    REGISTRY_MIRROR_ATTEMPTS,
    REGISTRY_MIRROR_DELAY_S,
)
from dreamer.protocol.rooms.card import RoomCard
from dreamer.protocol.tracker_limits import TRACKER_CONNECT_TIMEOUT_S

log = logging.getLogger(__name__)

T = TypeVar("T")

Stored = tuple[bytes, str]
"""A document and its ETag."""


class TrackerDocuments:
    """The document store (``registry_client.DocumentStore``) of a room without S3 registry.

    ``mirrors`` says whether this node may, and so shall, bring mirrors up to date.
    """

    def __init__(
        self,
        card: RoomCard,
        sessions: Sequence[TrackerSession],
        mirrors: bool,
        rng: Random,
        tasks: TaskSet,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._card = card
        self._sessions = sessions
        self._rng = rng
        self._tasks = tasks
        self._sleep = sleep
        self._mirrors = mirrors and len(sessions) > 1
        self._serial = -1
        self._newest: Stored | None = None
        # The ETag of the copy that stands in for what the first tracker has lost.
        self._stand_in: str | None = None
        self._stale: dict[str, None] = {}
        self._mirroring: asyncio.Task[None] | None = None

    async def read(self) -> Stored | None:
        """Return the document and its ETag; None when there is none yet.

        Raises:
            RemoteError: no tracker that has it can be reached.
        """
        self._stand_in = None
        try:
            stored = await self._read_first()
        except RemoteError as error:
            copy = await self._newest_copy()
            if copy is None:
                raise
            log.info("room %s as a mirror has it: %s", self._card.name, error)
            return copy
        if stored is None:
            stored = await self._newest_copy()
            self._stand_in = stored[1] if stored else None
            return stored
        await self._note(stored, at_once=False)
        return stored

    async def write(self, data: bytes, etag: str | None) -> str:
        """Write if the stored version is still ``etag``; return the new ETag.

        Raises:
            ConflictError: somebody else wrote first.
            RemoteError: the room's first tracker can't be reached: nothing was changed.
        """
        try:
            keeper = await self._keeper()
        except RemoteError as error:
            if len(self._sessions) < 2:
                raise
            raise RemoteError(
                f"{error}. Changes of the room are made there alone; until it is back, what is "
                "published can be pulled"
            ) from error
        # What replaces a lost document is, to the tracker, its first.
        expected = None if etag == self._stand_in else etag
        written = await self._patiently(lambda: keeper.write_registry(data, expected))
        await self._note((data, written), at_once=True)
        return written

    def changed_at(self, tracker: str) -> bool:
        """Note that a document was written at a tracker; return whether it is worth reading."""
        if self._sessions and tracker != self._sessions[0].url:
            # Another member was quicker: what it brought is at least as new as what we had.
            self._stale.pop(tracker, None)
            return not self._sessions[0].connected
        return True

    def returned(self, tracker: str) -> None:
        """Note that a tracker is back: as a mirror it may have missed something."""
        if self._sessions and tracker != self._sessions[0].url:
            self._stale[tracker] = None
            self._mirror_soon(at_once=False)

    async def _read_first(self) -> Stored | None:
        keeper = await self._keeper()
        # One that hangs is noticed late by its connection; who has a mirror need not wait for that.
        spared = any(session.connected for session in self._sessions[1:])
        try:
            async with asyncio.timeout(REGISTRY_FIRST_WAIT_S if spared else None):
                return await self._patiently(keeper.read_registry)
        except TimeoutError as error:
            raise RemoteError(
                f"the first tracker of room {self._card.name}, {keeper.url}, doesn't answer"
            ) from error

    async def _patiently(self, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask the first tracker; a member that makes many changes one after the other is slowed."""
        for _ in range(REGISTRY_BUSY_ATTEMPTS):
            try:
                return await ask()
            except TrackerBusyError:
                await self._sleep(REGISTRY_BUSY_PAUSE_S * self._rng.uniform(0.5, 1.5))
        return await ask()

    async def _keeper(self) -> TrackerSession:
        if not self._sessions:
            raise RemoteError(f"room {self._card.name} has no tracker to keep its registry")
        keeper = self._sessions[0]
        # A command given right after the start must not fail for being quicker than the login.
        await keeper.first_attempt(TRACKER_CONNECT_TIMEOUT_S)
        if not keeper.connected:
            reason = keeper.last_error or "it is not connected yet"
            first = "the first tracker" if len(self._sessions) > 1 else "the tracker"
            raise RemoteError(
                f"can't reach {first} of room {self._card.name} ({reason}): check that "
                f"dreamer-tracker runs at {self._card.trackers[0]}"
            )
        return keeper

    # Mirrors

    async def _newest_copy(self) -> Stored | None:
        """Return the copy with the highest serial at any of the other trackers."""
        there = [session for session in self._sessions[1:] if session.connected]
        found = await asyncio.gather(*(self._copy_at(session) for session in there))
        copies = [copy for copy in found if copy is not None]
        return max(copies, key=lambda copy: copy[0])[1] if copies else None

    async def _copy_at(self, session: TrackerSession) -> tuple[int, Stored] | None:
        try:
            async with asyncio.timeout(REGISTRY_FIRST_WAIT_S):
                stored = await session.read_registry()
            if stored is not None:
                return await self._serial_of(stored[0]), stored
        except (DreamerError, TimeoutError) as error:
            log.info("no copy of the registry of %s to be had: %s", self._card.name, error)
        return None

    async def _serial_of(self, data: bytes) -> int:
        return (await asyncio.to_thread(parse, data, self._card.room_id)).serial

    async def _note(self, stored: Stored, *, at_once: bool) -> None:
        """Take note of what the first tracker has; the mirrors are to have it, too."""
        if not self._mirrors or (self._newest is not None and stored[1] == self._newest[1]):
            return
        try:
            serial = await self._serial_of(stored[0])
        except InputError:
            # Nobody needs a second copy of what can't be read.
            return
        self._serial, self._newest = serial, stored
        self._stale = dict.fromkeys(session.url for session in self._sessions[1:])
        self._mirror_soon(at_once=at_once)

    def _mirror_soon(self, *, at_once: bool) -> None:
        busy = self._mirroring is not None and not self._mirroring.done()
        if not self._mirrors or (busy and not at_once):
            return
        if busy and self._mirroring is not None:
            self._mirroring.cancel()
        # Whoever wrote does it at once; the others only in case that node could not, and not all
        # at the same moment.
        pause_s = 0.0 if at_once else REGISTRY_MIRROR_DELAY_S * self._rng.uniform(0.5, 2.0)
        self._mirroring = self._tasks.start(self._mirror(pause_s))

    async def _mirror(self, pause_s: float) -> None:
        await self._sleep(pause_s)
        stale = [one for one in self._sessions[1:] if one.url in self._stale and one.connected]
        for session in stale:
            self._stale.pop(session.url)
        # Side by side: one that hangs must not keep the others from their copies.
        await asyncio.gather(*(self._try_to_bring(session) for session in stale))

    async def _try_to_bring(self, session: TrackerSession) -> None:
        try:
            await self._bring(session)
        except DreamerError as error:
            log.info("no mirror of the registry at %s: %s", session.url, error)

    async def _bring(self, session: TrackerSession) -> None:
        for _ in range(REGISTRY_MIRROR_ATTEMPTS):
            newest = self._newest
            if newest is None:
                return
            there = await session.read_registry()
            if there is not None and await self._is_no_newer(there[0]):
                return
            try:
                # On the condition that it is still what was looked at: it never goes back.
                await session.write_registry(newest[0], there[1] if there else None)
            except ConflictError:
                continue
            return

    async def _is_no_newer(self, copy: bytes) -> bool:
        """Return whether what we have is no newer than a copy; one that can't be read is old."""
        if self._newest is not None and copy == self._newest[0]:
            return True
        try:
            return self._serial <= await self._serial_of(copy)
        except InputError:
            return False
