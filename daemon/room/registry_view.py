"""What a room's registry says: as it is now where that can be had, else as last seen."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from dreamer.daemon.room.registry_client import RegistryClient
from dreamer.daemon.tasks import TaskSet
from dreamer.protocol.errors import DreamerError, NoMatchError
from dreamer.protocol.ids import NodeId
from dreamer.protocol.registry.resolve import resolve
from dreamer.protocol.registry.view import Model, Verified

log = logging.getLogger(__name__)


class RegistryView:
    """One room's registry, for reading. ``room`` is its name, for the log."""

    def __init__(self, room: str, client: RegistryClient, tasks: TaskSet) -> None:
        self._room = room
        self._client = client
        self._tasks = tasks
        self._read_last: Verified | None = None
        self._moved = False
        self._following: asyncio.Task[None] | None = None
        self.changed: list[Callable[[], None]] = []
        """Called when it says something else than before."""

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
            if before is None or before.document != verified.document:
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
            raise

    def authors(self) -> tuple[NodeId, ...]:
        """Return the members that have written what was read last."""
        return () if self._read_last is None else tuple(self._read_last.document.members)

    def moved(self) -> None:
        """Read the registry soon; a hundred calls meanwhile lead to one more reading."""
        self._moved = True
        if self._following is None or self._following.done():
            self._following = self._tasks.start(self._follow())

    async def _follow(self) -> None:
        while self._moved:
            self._moved = False
            try:
                await self.read()
            except DreamerError as error:
                log.warning("can't read the registry of %s: %s", self._room, error)
