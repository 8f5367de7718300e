"""Keeps this node's record in each of its rooms' registries: what is whole here, what was moved.

When to write is ``protocol/report_schedule``'s to say; here the registry is read and written. What
it says already is not written again, also after a restart. Where a node's role does not let it
write, a tracker does it for the node; one that may not even report tries once for each membership.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from random import Random

from dreamer.daemon.costs.ledger import Ledger
from dreamer.daemon.room.session import RoomSession
from dreamer.daemon.sharing.library import Library
from dreamer.daemon.state import State
from dreamer.daemon.tasks import TaskSet
from dreamer.protocol.cache_limits import REPORT_LAST_TIMEOUT_S, REPORT_LOOK_S
from dreamer.protocol.costs import to_words
from dreamer.protocol.errors import DreamerError, ForbiddenError
from dreamer.protocol.ids import ManifestId, NodeId, RoomId
from dreamer.protocol.registry.availability import NodeReport
from dreamer.protocol.registry.view import Registry
from dreamer.protocol.registry_limits import (
    REPORT_MAX_MODELS,
    REPORT_MAX_MONTHS,
    REPORT_NAME_MAX_CHARS,
)
from dreamer.protocol.report_schedule import ReportSchedule, RoomSize

log = logging.getLogger(__name__)

GENERATES = "decoder"
"""The type of models that members can have run by others."""


@dataclass(frozen=True)
class ReportParts:
    """What reports are made of.

    ``library`` is what others hear of: nothing of an ephemeral worker. ``serves`` says whether
    this node runs models for members. ``clock``: steady seconds.
    """

    us: NodeId
    name: str
    ledger: Ledger
    library: Library
    state: State
    serves: Callable[[], bool]
    rng: Random
    tasks: TaskSet
    clock: Callable[[], float] = time.monotonic


class NodeReports:
    """All rooms of a node."""

    def __init__(self, parts: ReportParts) -> None:
        self._parts = parts
        self._reporters: dict[RoomId, Reporter] = {}

    def watch(self, session: RoomSession) -> None:
        """Report to a room until it is left."""
        reporter = self._reporters[session.room_id] = Reporter(self._parts, session)
        session.at_close += [reporter.close, lambda: self._reporters.pop(session.room_id, None)]

    async def last(self) -> None:
        """Report what is still to be said, now that the node stops; then no more."""
        await asyncio.gather(*(one.last() for one in self._reporters.values()))

    async def leaving(self, session: RoomSession) -> None:
        """Report that nothing is held here for a room any more."""
        if (reporter := self._reporters.get(session.room_id)) is not None:
            await reporter.last(leaving=True)


class Reporter:
    """One room's."""

    def __init__(self, parts: ReportParts, session: RoomSession) -> None:
        self._parts = parts
        self._session = session
        self._schedule = ReportSchedule(parts.rng)
        self._schedule.cached_changed(parts.clock())
        self._stirred = asyncio.Event()
        self._moved: dict[str, dict[str, int]] | None = None
        parts.library.listen(self._library_changed)
        self._running = parts.tasks.start(self._run())

    def close(self) -> None:
        """Report nothing more."""
        self._parts.library.stop_listening(self._library_changed)
        self._running.cancel()

    async def last(self, *, leaving: bool = False) -> None:
        """Report now if there is anything to say, as far as that takes no more than a moment."""
        self.close()
        with suppress(TimeoutError, DreamerError):
            async with asyncio.timeout(REPORT_LAST_TIMEOUT_S):
                if leaving or (self._waits() and self._session.connected):
                    await self._report(leaving=leaving)

    def _waits(self) -> bool:
        self._look_at_ledger()
        return self._schedule.due_at < float("inf")

    def _library_changed(self, room: RoomId, manifest_id: ManifestId, blocks: int) -> None:
        if room != self._session.room_id:
            return
        found = self._parts.library.find(room, manifest_id)
        if found is None or found.whole:
            self._schedule.cached_changed(self._parts.clock())
            self._stirred.set()

    async def _run(self) -> None:
        while True:
            self._look_at_ledger()
            wait_s = min(self._schedule.due_at - self._parts.clock(), REPORT_LOOK_S)
            if wait_s > 0:
                await self._sleep(wait_s)
                continue
            try:
                await self._report()
            except ForbiddenError as error:
                log.debug("room %s gets no reports: %s", self._session.card.name, error)
                self._schedule.refused()
            except DreamerError as error:
                log.debug("room %s gets a report later: %s", self._session.card.name, error)
                self._schedule.failed(self._parts.clock())

    async def _sleep(self, wait_s: float) -> None:
        self._stirred.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(wait_s):
                await self._stirred.wait()

    def _look_at_ledger(self) -> None:
        if self._moved is not None and self._usage() != self._moved:
            self._schedule.usage_changed(self._parts.clock())

    async def _report(self, *, leaving: bool = False) -> None:
        """Write what is to be said, unless the registry says it already.

        Raises:
            DreamerError: it could not be read or written.
        """
        registry = await self._session.read_registry()
        usage = self._usage()
        cached = () if leaving else tuple(self._cached(registry))[:REPORT_MAX_MODELS]
        report = NodeReport(cached, usage, _said(self._parts.name))
        if registry.reports.get(self._parts.us) != report:
            await self._session.registry.report(report)
        self._moved = usage
        self._schedule.written(self._parts.clock())
        self._schedule.room(self._size(registry))

    def _cached(self, registry: Registry) -> Iterator[tuple[bytes, bool]]:
        serves = self._parts.serves()
        for offering in self._parts.library.in_room(self._session.room_id):
            model = registry.models.get(offering.manifest_id)
            if model is not None and offering.whole:
                yield offering.manifest_id, serves and model.model_type == GENERATES

    def _usage(self) -> dict[str, dict[str, int]]:
        months = self._parts.ledger.by_month(self._session.room_id)
        words = {month: to_words(usage) for month, usage in months.items()}
        kept = sorted(month for month, counts in words.items() if counts)[-REPORT_MAX_MONTHS:]
        return {month: words[month] for month in kept}

    def _size(self, registry: Registry) -> RoomSize:
        kept = self._parts.state.registry(self._session.room_id)
        members = {*registry.reports, *self._session.known_members(), self._parts.us}
        return RoomSize(len(members), len(kept.document) if kept is not None else 0)


def _said(name: str) -> str:
    return name[:REPORT_NAME_MAX_CHARS] if name.isprintable() else ""
