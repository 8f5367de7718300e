"""What a room's registry says: as it is now where that can be had, else as last seen."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from dreamer.daemon.room.registry_client import RegistryClient
from dreamer.daemon.tasks import TaskSet
from dreamer.protocol.errors import DreamerError, NoMatchError
from dreamer.protocol.ids import NodeId, short
from dreamer.protocol.registry.resolve import resolve
from dreamer.protocol.registry.view import Model, Verified
from dreamer.protocol.registry_limits import (
    REF_MIN_PREFIX_DIGITS,
    REGISTRY_FOLLOW_BYTES_PER_S,
    REGISTRY_FOLLOW_MAX_S,
    REGISTRY_MEND_RETRY_MAX_S,
    REGISTRY_MEND_RETRY_S,
)

log = logging.getLogger(__name__)


class RegistryView:
    """One room's registry, for reading. ``room`` is its name, for the log."""

    def __init__(
        self,
        room: str,
        client: RegistryClient,
        tasks: TaskSet,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._sleep = sleep
        self._room = room
        self._client = client
        self._tasks = tasks
        self._read_last: Verified | None = None
        self._moved = False
        self._following: asyncio.Task[None] | None = None
        self._mending: asyncio.Task[None] | None = None
        self.changed: list[Callable[[], None]] = []
        """Called when it says something else than before."""

    @property
    def latest(self) -> Verified | None:
        """What was read last; None if nothing was."""
        return self._read_last

    async def read(self) -> Verified:
        """Return what the registry says.

        Raises:
            DreamerError: it can't be read, and nothing was seen before.
        """
        try:
            verified = await self._client.refresh()
        except DreamerError as error:
            known = await self._client.recall()
            if known is None:
                raise
            log.warning("room %s as it was last seen, for now: %s", self._room, error)
            verified = known
        if verified is not self._read_last:
            before, self._read_last = self._read_last, verified
            # Read anew is not changed: whoever is told may read it once more.
            if before is None or _differ(before, verified):
                for listener in self.changed:
                    listener()
            for report in verified.reports:
                log.warning("room %s: %s", self._room, report)
        return verified

    async def resolve(self, ref: str) -> Model:
        """Return the model that a reference names.

        Raises:
            NoMatchError: it names nothing, or only what can't be believed.
            AmbiguousError: it names several models.
            DreamerError: as from ``read``.
        """
        verified = await self.read()
        try:
            return resolve(verified.registry, ref)
        except NoMatchError as error:
            for report in verified.reports:
                if report.concerns(ref):
                    raise NoMatchError(
                        f"{ref!r:.80} is in the registry but can't be believed ({report}): ask its "
                        "publisher to push it again"
                    ) from error
            if ended := _ended(verified, ref):
                raise NoMatchError(ended) from error
            raise

    def authors(self) -> tuple[NodeId, ...]:
        """Return the members that have written what was read last."""
        return () if self._read_last is None else tuple(self._read_last.document.members)

    def moved(self) -> None:
        """Read the registry soon; a hundred calls meanwhile lead to one more reading.

        Whoever asks for something reads at once, whatever is waited for here.
        """
        self._moved = True
        if self._following is None or self._following.done():
            self._following = self._tasks.start(self._follow())

    def close(self) -> None:
        """Read nothing more by itself, and put nothing back: the room is left."""
        self._moved = False
        for task in (self._following, self._mending):
            if task is not None:
                task.cancel()

    async def _follow(self) -> None:
        while self._moved:
            self._moved = False
            try:
                await self.read()
            except DreamerError as error:
                log.warning("can't read the registry of %s: %s", self._room, error)
            if self._mending is None or self._mending.done():
                self._mending = self._tasks.start(self._mend())
            # Where hundreds of members report something at once, each report would have hundreds of
            # nodes read the whole document: the larger it is, the more of them share one reading.
            pause_s = self._client.size_bytes / REGISTRY_FOLLOW_BYTES_PER_S
            await self._sleep(min(pause_s, REGISTRY_FOLLOW_MAX_S))

    async def _mend(self) -> None:
        """Put back what was dropped; again until that is done, as perhaps nobody changes anything.

        It returns at once where nothing was dropped, or somebody else was quicker.
        """
        pause_s = REGISTRY_MEND_RETRY_S
        while True:
            try:
                return await self._client.mend()
            except DreamerError as error:
                log.warning("can't put back what was dropped from %s: %s", self._room, error)
            await self._sleep(pause_s)
            pause_s = min(2 * pause_s, REGISTRY_MEND_RETRY_MAX_S)


def _ended(verified: Verified, ref: str) -> str:
    """Return that a reference names a temporary upload whose time is over; empty if none."""
    for manifest_id, model in verified.registry.expired.items():
        if len(ref) >= REF_MIN_PREFIX_DIGITS and manifest_id.hex().startswith(ref):
            when = time.strftime("%Y-%m-%d %H:%M", time.localtime(model.expires_at))
            return f"{model.name} ({short(manifest_id)}) was a temporary upload, until {when}"
    return ""


def _differ(before: Verified, after: Verified) -> bool:
    # Models also go by themselves, when their time is over.
    gone = before.registry.models.keys() != after.registry.models.keys()
    return gone or before.document != after.document
