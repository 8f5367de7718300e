"""Says whether a node is ready: in the room it was invited to, with the models it is to have."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from typing import Protocol

from dreamer.daemon.room.session import RoomSession
from dreamer.daemon.settings.models import ModelsSection
from dreamer.daemon.surfaces.readiness import PreloadInfo, ReadyInfo
from dreamer.daemon.worker.joining import Joining
from dreamer.daemon.worker.kind import Worker
from dreamer.daemon.worker.preload import NodeModels, Preload, Preloaded, Wanted
from dreamer.protocol.cache_limits import PRELOAD_ONLY_TRIES
from dreamer.protocol.errors import DreamerError, ForbiddenError, InputError, NoMatchError
from dreamer.protocol.registry.view import Model


class FoundModels(NodeModels, Protocol):
    """What preloading needs of its node, and where the models are."""

    def found(self, wanted: Wanted) -> tuple[RoomSession, Model] | None:
        """Return the room and the entry of a model; None: its room was left."""
        ...


class NodeReadiness:
    """The facet ``readiness`` of a node; ``run`` does what has to be done first."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self._joining: Joining | None = None
        self._preload: Preload | None = None
        self._models: FoundModels | None = None
        self._stopping = False
        self._news = asyncio.Event()

    def begin(
        self, joining: Joining, models: FoundModels, wanted: ModelsSection, rng: Random
    ) -> None:
        """Take what has to be done first."""
        self._joining, self._models = joining, models
        self._preload = Preload(
            wanted.preload, models, rng, follow=wanted.follow, changed=self.changed
        )

    def wake(self) -> None:
        """Look soon at what the models' names mean now."""
        if self._preload is not None:
            self._preload.wake()

    async def run(self) -> None:
        """Join, then bring the models and follow them."""
        assert self._joining is not None, "it begins before it runs"
        assert self._preload is not None, "it begins before it runs"
        await self._joining.run()
        self.changed()
        await self._preload.run()

    @property
    def ready(self) -> bool:
        """Whether the node is ready."""
        return (
            not self._stopping
            and self._joining is not None
            and self._joining.done
            and self._preload is not None
            and self._preload.ready
        )

    def changed(self) -> None:
        """Note that something may have changed."""
        # Each has an event of its own, so that nobody can miss what wakes another.
        self._news.set()
        self._news = asyncio.Event()

    def stop(self) -> None:
        """Be ready no more: the node is about to end."""
        self._stopping = True
        self.changed()

    def serving(self, ref: str, room: str | None) -> tuple[RoomSession, Model] | None:
        """Return the model that is kept here for a reference which is followed; else None.

        When an alias moves, that is the earlier model until the next is loaded.
        """
        if self._preload is None or self._models is None or not self._preload.follow:
            return None
        wanted = self._preload.means(ref)
        found = self._models.found(wanted) if wanted is not None else None
        if found is None or room not in (None, found[0].card.name, found[0].room_id.hex()):
            return None
        return found

    def info(self) -> ReadyInfo:
        """Return how it stands now."""
        preload = tuple(one.info() for one in self._preload.models) if self._preload else ()
        return ReadyInfo(self.ready, tuple(self._waits(preload)), preload)

    def _waits(self, preload: tuple[PreloadInfo, ...]) -> list[str]:
        if self._stopping:
            return ["it is stopping"]
        if self._joining is None:
            return ["it is starting"]
        if not self._joining.done:
            error = self._joining.error
            return [f"the room of its invitation: {error or 'its tracker is asked'}"]
        return [f"{one.ref}: {_told(one)}" for one in preload if not one.ready]

    async def until_ready(self) -> None:
        """Return once the node is ready."""
        await self._until(lambda: self.ready)

    async def until_ready_or_hopeless(self) -> None:
        """Return once the node is ready; for a node that somebody starts again if it isn't.

        Raises:
            DreamerError: what has failed can't be mended by waiting, or has failed several times.
        """
        await self._until(lambda: self.ready or self._hopeless() is not None)
        if (failure := self._hopeless()) is not None:
            raise failure

    def _hopeless(self) -> DreamerError | None:
        preloaded: list[Preloaded] = self._preload.models if self._preload else []
        for one in (self._joining, *preloaded):
            if one is None or one.error is None:
                continue
            # An alias may be set a moment later, and a registry come late.
            final = isinstance(one.error, (InputError, ForbiddenError))
            if one.failures >= PRELOAD_ONLY_TRIES or (
                final and not isinstance(one.error, NoMatchError)
            ):
                return one.error
        return None

    async def news(self) -> None:
        """Return once something has changed, or may have."""
        news = self._news
        await news.wait()

    async def _until(self, happened: Callable[[], bool]) -> None:
        while not happened():
            await self.news()


def _told(one: PreloadInfo) -> str:
    if one.note:
        return one.note
    if one.state == "fetching" and one.total:
        return f"fetching, {one.done} of {one.total} bytes are here"
    return one.state
