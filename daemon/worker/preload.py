"""Models that are here before a node is ready: fetched, loaded, and followed when they move.

Each reference has a task of its own. What it does for a model, in this order: resolve, fetch (the
store verifies what the volume holds, by its hashes, and only the rest is fetched), load; then the
model that was there before is let go. A failure is tried again after a pause that grows.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from random import Random
from typing import Protocol

from dreamer.daemon.ports import Progress, PullReceipt
from dreamer.daemon.surfaces.readiness import PreloadInfo, PreloadState
from dreamer.protocol.cache_limits import (
    PRELOAD_LOOK_S,
    PRELOAD_RETRY_BASE_S,
    PRELOAD_RETRY_MAX_S,
)
from dreamer.protocol.errors import DreamerError, LocalProtocolError
from dreamer.protocol.ids import ManifestId, RoomId, short

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Wanted:
    """The model that a reference means now."""

    manifest_id: ManifestId
    room_id: RoomId
    name: str
    size_bytes: int


class NodeModels(Protocol):
    """What preloading needs of its node."""

    async def resolve(self, ref: str) -> Wanted:
        """Return what a reference means; raises DreamerError if that can't be said."""
        ...

    def fetch(self, wanted: Wanted) -> AsyncGenerator[Progress | PullReceipt, None]:
        """Bring a model into the store; ends with the receipt."""
        ...

    async def load(self, wanted: Wanted, instead_of: Wanted | None) -> bool:
        """Take a model into memory to stay; False: it is none that this node can run."""
        ...

    async def let_go(self, gone: Wanted) -> None:
        """Take a model out of memory, once what is under way with it is done."""
        ...

    def hold(self, wanted: Wanted) -> None:
        """Keep a model in the store."""
        ...


class Preloaded:
    """One reference; ``run`` brings what it means, and with ``follow`` goes on doing so."""

    def __init__(
        self,
        ref: str,
        models: NodeModels,
        rng: Random,
        follow: bool,
        changed: Callable[[], None],
        shared: Callable[[ManifestId], bool],
    ) -> None:
        """``shared`` says whether a model is here, or on its way, for any reference at all."""
        self.ref = ref
        self.current: Wanted | None = None
        self.failures = 0
        self.error: DreamerError | None = None
        self._models = models
        self._rng = rng
        self._follow = follow
        self._changed = changed
        self._shared = shared
        self.held: Wanted | None = None
        """What is being brought, or failed to be: kept in the store for the next attempt."""
        self._loaded = False
        self._state: PreloadState = "waiting"
        self._progress = Progress("resolve", 0, 0)
        self._moved = asyncio.Event()

    @property
    def ready(self) -> bool:
        """Whether a model is here for it."""
        return self.current is not None

    def wake(self) -> None:
        """Look soon at what the reference means: a registry has changed."""
        self._moved.set()

    def info(self) -> PreloadInfo:
        """Return how it stands."""
        return PreloadInfo(
            ref=self.ref,
            state=self._state,
            ready=self.ready,
            manifest_id=self.current.manifest_id.hex() if self.current else "",
            name=self.current.name if self.current else "",
            loaded=self._loaded,
            done=self._progress.done,
            total=self._progress.total,
            note=str(self.error) if self.error else self._progress.note,
        )

    async def run(self) -> None:
        """Bring the model; returns once it is here, with ``follow`` never."""
        while True:
            self._moved.clear()
            try:
                wanted = await self._models.resolve(self.ref)
                if self.current is None or wanted.manifest_id != self.current.manifest_id:
                    await self._bring_unless_moved(wanted)
                else:
                    self._settled()
            except DreamerError as error:
                self._failed(error)
            except Exception as error:
                # A bug of ours must not end what alone would make the node ready.
                log.exception("%s failed in a way that it should not", self.ref)
                self._failed(LocalProtocolError(f"{type(error).__name__}: see the daemon's log"))
            else:
                if not self._follow:
                    return
                await self._pause(PRELOAD_LOOK_S)
                continue
            await self._pause(self._retry_s())

    async def _bring_unless_moved(self, wanted: Wanted) -> None:
        """Bring a model; gives up on it once the reference means another one."""
        bringing = asyncio.ensure_future(self._bring(wanted))
        try:
            while not bringing.done():
                moved = asyncio.ensure_future(self._moved.wait())
                await asyncio.wait({bringing, moved}, return_when=asyncio.FIRST_COMPLETED)
                moved.cancel()
                if bringing.done() or not self._follow:
                    break
                self._moved.clear()
                if not await self._means(wanted):
                    log.info("%s has moved on: %s is fetched no further", self.ref, wanted.name)
                    self._moved.set()
                    return
            await bringing
        finally:
            bringing.cancel()
            await asyncio.wait({bringing})

    async def _means(self, wanted: Wanted) -> bool:
        try:
            return (await self._models.resolve(self.ref)).manifest_id == wanted.manifest_id
        except DreamerError:
            # Not to be known now: what is being fetched is what it meant last.
            return True

    async def _let_go_unless_shared(self, gone: Wanted) -> None:
        if not self._shared(gone.manifest_id):
            await self._models.let_go(gone)

    async def _bring(self, wanted: Wanted) -> None:
        before = self.current
        await self._hold(wanted)
        self._enter("fetching", Progress("resolve", 0, wanted.size_bytes))
        async with aclosing(self._models.fetch(wanted)) as events:
            async for event in events:
                if isinstance(event, Progress):
                    self._enter("fetching", event)
        self._enter("loading", Progress("finish", wanted.size_bytes, wanted.size_bytes))
        loaded = await self._models.load(wanted, before)
        self.current, self.held, self._loaded = wanted, None, loaded
        self._settled()
        log.info(
            "%s is here: %s %s%s",
            *(self.ref, wanted.name, short(wanted.manifest_id), ", loaded" if loaded else ""),
        )
        if before is not None:
            await self._let_go_unless_shared(before)

    async def _hold(self, wanted: Wanted) -> None:
        """Keep a model, before it is here: just fetched, it would be the first to be evicted."""
        before, self.held = self.held, wanted
        self._models.hold(wanted)
        if before is not None:
            await self._let_go_unless_shared(before)

    def _enter(self, state: PreloadState, progress: Progress) -> None:
        self._state, self._progress = state, progress

    def _settled(self) -> None:
        self.failures, self.error = 0, None
        self._state = "ready"
        self._changed()

    def _failed(self, error: DreamerError) -> None:
        self.failures += 1
        self.error, self._state = error, "waiting"
        log.warning("%s can't be brought yet: %s", self.ref, error)
        self._changed()

    def _retry_s(self) -> float:
        # By chance: the pods of a deployment start at one moment, and would all retry at one.
        most_s: float = PRELOAD_RETRY_BASE_S * 2 ** min(self.failures - 1, 16)
        return min(PRELOAD_RETRY_MAX_S, most_s) * self._rng.uniform(0.5, 1.0)

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._moved.wait()
        except TimeoutError:
            pass


class Preload:
    """All models that a node has before it is ready."""

    def __init__(
        self,
        refs: Sequence[str],
        models: NodeModels,
        rng: Random,
        *,
        follow: bool = False,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self.follow = follow
        self.models = [Preloaded(ref, models, rng, follow, changed, self._has) for ref in refs]

    def _has(self, manifest_id: ManifestId) -> bool:
        return any(
            known is not None and known.manifest_id == manifest_id
            for one in self.models
            for known in (one.current, one.held)
        )

    @property
    def ready(self) -> bool:
        """Whether every model is here."""
        return all(one.ready for one in self.models)

    def wake(self) -> None:
        """Look soon at what every reference means."""
        for one in self.models:
            one.wake()

    def means(self, ref: str) -> Wanted | None:
        """Return the model that is here for a reference; None: it is not among these, or not yet.

        It stays the earlier one until the next is loaded: so nobody is told in between that the
        model isn't here.
        """
        return next((one.current for one in self.models if one.ref == ref), None)

    async def run(self) -> None:
        """Bring all models; returns once they are here, or with ``follow`` never."""
        async with asyncio.TaskGroup() as group:
            for one in self.models:
                group.create_task(one.run())
